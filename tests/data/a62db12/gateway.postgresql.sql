CREATE TABLE public.ledger (
    idempotency_key character varying NOT NULL,
    charge_id character varying NOT NULL,
    order_id character varying NOT NULL,
    type character varying NOT NULL,
    amount_minor bigint NOT NULL,
    currency character varying NOT NULL,
    at timestamp with time zone NOT NULL
);
CREATE TABLE public.tries (
    idempotency_key character varying NOT NULL,
    count integer NOT NULL
);
INSERT INTO public.ledger VALUES ('01a21a01-7c3d-7535-bc31-cd1ee618770a', '01a21a01-8642-7215-9bee-5250b772a53c', '01a21a01-7c3d-7535-bc31-cd1ee618770a', 'charge', 2200, 'EUR', '2026-11-26 22:37:17.250182+00');
INSERT INTO public.ledger VALUES ('01a21a01-7c7f-7402-9e1d-c06fdd88de1c', '01a21a01-975b-701a-ba69-0d94a27276b2', '01a21a01-7c7f-7402-9e1d-c06fdd88de1c', 'charge', 2200, 'EUR', '2026-11-26 22:37:21.627596+00');
INSERT INTO public.ledger VALUES ('01a21a01-b4f4-7581-b34d-ac2f21bc0d3f', '01a21a01-bd26-723f-89d5-c6a6776cf2a7', '01a21a01-b4f4-7581-b34d-ac2f21bc0d3f', 'charge', 2200, 'EUR', '2026-11-26 22:37:31.302875+00');
INSERT INTO public.ledger VALUES ('01a21a01-bd68-72e2-98f9-8ef4c1e27737', '01a21a01-c5e0-7469-87e6-e20a51758b60', '01a21a01-bd68-72e2-98f9-8ef4c1e27737', 'charge', 2200, 'EUR', '2026-11-26 22:37:33.536339+00');
INSERT INTO public.ledger VALUES ('01a21a01-c1cc-720c-9769-7b1fef31242e', '01a21a01-c868-7609-814c-84b0bb7f9420', '01a21a01-c1cc-720c-9769-7b1fef31242e', 'charge', 2200, 'EUR', '2026-11-26 22:37:34.184007+00');
INSERT INTO public.tries VALUES ('01a21a01-7c7f-7402-9e1d-c06fdd88de1c', 3);
ALTER TABLE ONLY public.ledger
    ADD CONSTRAINT ledger_charge_id_key UNIQUE (charge_id);
ALTER TABLE ONLY public.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (idempotency_key);
ALTER TABLE ONLY public.tries
    ADD CONSTRAINT tries_pkey PRIMARY KEY (idempotency_key);
