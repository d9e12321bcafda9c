PRAGMA journal_mode=WAL;
BEGIN TRANSACTION;
CREATE TABLE duplicates (
	order_id VARCHAR NOT NULL, 
	times INTEGER NOT NULL, 
	PRIMARY KEY (order_id)
);
INSERT INTO "duplicates" VALUES('01a21a00-7a10-70b3-b61d-4ef85ea69beb',1);
CREATE TABLE idempotency_keys (
	"key" VARCHAR NOT NULL, 
	fingerprint VARCHAR NOT NULL, 
	order_id VARCHAR NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "idempotency_keys" VALUES('first','ffc4673aa18a48d5af3ba7ac9fcd4b03287ed546db25fa5c6ce7ceb657c3c94b','01a21a00-7a10-70b3-b61d-4ef85ea69beb');
INSERT INTO "idempotency_keys" VALUES('second','bd2e1cfbe33f477a068d82d97037c0f50081f32c786c7c37b95d0d29f3c01e15','01a21a00-c131-74c9-8664-27f32cb28c6d');
CREATE TABLE orders (
	order_id VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	summary JSON NOT NULL, 
	payment_token VARCHAR NOT NULL, 
	wants_sms BOOLEAN NOT NULL, 
	placed_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	sweeps INTEGER NOT NULL, 
	quiet_since DATETIME, 
	PRIMARY KEY (order_id)
);
INSERT INTO "orders" VALUES('01a21a00-7a10-70b3-b61d-4ef85ea69beb','confirmed','{"customer_email":"ada@example.com","customer_phone":"+4915112345678","items":[{"sku":"margherita","name":"Pizza Margherita","quantity":2,"unit_price":{"amount_minor":950,"currency":"EUR"}},{"sku":"cola","name":"Cola 0.33 l","quantity":1,"unit_price":{"amount_minor":300,"currency":"EUR"}}],"total":{"amount_minor":2200,"currency":"EUR"}}','tok_visa',1,'2026-11-26 22:36:08.592217','2026-11-26 22:36:10.956305',0,NULL);
INSERT INTO "orders" VALUES('01a21a00-7a23-70f9-94e8-32020cfae8f8','confirmed','{"customer_email":"ada@example.com","customer_phone":null,"items":[{"sku":"margherita","name":"Pizza Margherita","quantity":2,"unit_price":{"amount_minor":950,"currency":"EUR"}},{"sku":"cola","name":"Cola 0.33 l","quantity":1,"unit_price":{"amount_minor":300,"currency":"EUR"}}],"total":{"amount_minor":2200,"currency":"EUR"}}','tok_flaky',0,'2026-11-26 22:36:08.611577','2026-11-26 22:36:14.775972',0,NULL);
INSERT INTO "orders" VALUES('01a21a00-7a51-77ff-9d84-a1b9a4d225b4','declined','{"customer_email":"ada@example.com","customer_phone":null,"items":[{"sku":"margherita","name":"Pizza Margherita","quantity":2,"unit_price":{"amount_minor":950,"currency":"EUR"}},{"sku":"cola","name":"Cola 0.33 l","quantity":1,"unit_price":{"amount_minor":300,"currency":"EUR"}}],"total":{"amount_minor":2200,"currency":"EUR"}}','tok_declined',0,'2026-11-26 22:36:08.657139','2026-11-26 22:36:10.402695',0,NULL);
INSERT INTO "orders" VALUES('01a21a00-7a64-74a2-ba10-253eac2806ab','stalled','{"customer_email":"ada@example.com","customer_phone":null,"items":[{"sku":"margherita","name":"Pizza Margherita","quantity":2,"unit_price":{"amount_minor":950,"currency":"EUR"}},{"sku":"cola","name":"Cola 0.33 l","quantity":1,"unit_price":{"amount_minor":300,"currency":"EUR"}}],"total":{"amount_minor":2200,"currency":"EUR"}}','tok_broken',0,'2026-11-26 22:36:08.676642','2026-11-26 22:36:22.594316',0,NULL);
INSERT INTO "orders" VALUES('01a21a00-b4e9-7713-a619-729c8624f4d0','paid','{"customer_email":"ada@example.com","customer_phone":"+4915112345678","items":[{"sku":"margherita","name":"Pizza Margherita","quantity":2,"unit_price":{"amount_minor":950,"currency":"EUR"}},{"sku":"cola","name":"Cola 0.33 l","quantity":1,"unit_price":{"amount_minor":300,"currency":"EUR"}}],"total":{"amount_minor":2200,"currency":"EUR"}}','tok_visa',1,'2026-11-26 22:36:23.657390','2026-11-26 22:36:25.650970',0,'2026-11-26 22:36:25.650970');
INSERT INTO "orders" VALUES('01a21a00-bcd7-7770-8aa2-20cb8f2771dd','placed','{"customer_email":"ada@example.com","customer_phone":null,"items":[{"sku":"margherita","name":"Pizza Margherita","quantity":2,"unit_price":{"amount_minor":950,"currency":"EUR"}},{"sku":"cola","name":"Cola 0.33 l","quantity":1,"unit_price":{"amount_minor":300,"currency":"EUR"}}],"total":{"amount_minor":2200,"currency":"EUR"}}','tok_visa',0,'2026-11-26 22:36:25.687791','2026-11-26 22:36:25.687791',0,'2026-11-26 22:36:25.687791');
INSERT INTO "orders" VALUES('01a21a00-c131-74c9-8664-27f32cb28c6d','placed','{"customer_email":"ada@example.com","customer_phone":null,"items":[{"sku":"margherita","name":"Pizza Margherita","quantity":2,"unit_price":{"amount_minor":950,"currency":"EUR"}},{"sku":"cola","name":"Cola 0.33 l","quantity":1,"unit_price":{"amount_minor":300,"currency":"EUR"}}],"total":{"amount_minor":2200,"currency":"EUR"}}','tok_visa',0,'2026-11-26 22:36:26.801504','2026-11-26 22:36:26.801504',0,'2026-11-26 22:36:26.801504');
INSERT INTO "orders" VALUES('01a21a00-e30b-70f6-a9c0-e3e472fcb2a5','placed','{"customer_email":"ada@example.com","customer_phone":null,"items":[{"sku":"margherita","name":"Pizza Margherita","quantity":2,"unit_price":{"amount_minor":950,"currency":"EUR"}},{"sku":"cola","name":"Cola 0.33 l","quantity":1,"unit_price":{"amount_minor":300,"currency":"EUR"}}],"total":{"amount_minor":2200,"currency":"EUR"}}','tok_visa',0,'2026-11-26 22:36:35.467287','2026-11-26 22:36:35.467287',0,'2026-11-26 22:36:35.467287');
INSERT INTO "orders" VALUES('01a21a00-e555-7559-94bb-b6c4bdee4ee5','placed','{"customer_email":"ada@example.com","customer_phone":null,"items":[{"sku":"margherita","name":"Pizza Margherita","quantity":2,"unit_price":{"amount_minor":950,"currency":"EUR"}},{"sku":"cola","name":"Cola 0.33 l","quantity":1,"unit_price":{"amount_minor":300,"currency":"EUR"}}],"total":{"amount_minor":2200,"currency":"EUR"}}','tok_visa',0,'2026-11-26 22:36:36.053572','2026-11-26 22:36:36.053572',0,'2026-11-26 22:36:36.053572');
INSERT INTO "orders" VALUES('01a21a00-e561-7515-b83a-2961c1c29fa3','placed','{"customer_email":"ada@example.com","customer_phone":null,"items":[{"sku":"margherita","name":"Pizza Margherita","quantity":2,"unit_price":{"amount_minor":950,"currency":"EUR"}},{"sku":"cola","name":"Cola 0.33 l","quantity":1,"unit_price":{"amount_minor":300,"currency":"EUR"}}],"total":{"amount_minor":2200,"currency":"EUR"}}','tok_declined',0,'2026-11-26 22:36:36.065335','2026-11-26 22:36:36.065335',0,'2026-11-26 22:36:36.065335');
CREATE TABLE outbox (
	id INTEGER NOT NULL, 
	event_id VARCHAR NOT NULL, 
	exchange VARCHAR NOT NULL, 
	type VARCHAR NOT NULL, 
	source VARCHAR NOT NULL, 
	timestamp BIGINT NOT NULL, 
	body BLOB NOT NULL, 
	returns INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "outbox" VALUES(1,'01a21a00-e555-7559-94bb-b6c4bdee4ee5','orders','order.placed.v1','order_service',1795732596,X'7B227370656376657273696F6E223A22312E30222C226964223A2230316132316130302D653535352D373535392D393462622D623663346264656534656535222C22736F75726365223A226F726465725F73657276696365222C2274797065223A226F726465722E706C616365642E7631222C227375626A656374223A2230316132316130302D653535352D373535392D393462622D623663346264656534656535222C2274696D65223A22323032362D31312D32365432323A33363A33362E3035333537325A222C2264617461636F6E74656E7474797065223A226170706C69636174696F6E2F6A736F6E222C227472616365706172656E74223A2230302D64613032626162353137373062393939636263326163326662353839383631632D663564623034663337326262396433362D3031222C2264617461223A7B226F72646572223A7B22637573746F6D65725F656D61696C223A22616461406578616D706C652E636F6D222C226974656D73223A5B7B22736B75223A226D617267686572697461222C226E616D65223A2250697A7A61204D617267686572697461222C227175616E74697479223A322C22756E69745F7072696365223A7B22616D6F756E745F6D696E6F72223A3935302C2263757272656E6379223A22455552227D7D2C7B22736B75223A22636F6C61222C226E616D65223A22436F6C6120302E3333206C222C227175616E74697479223A312C22756E69745F7072696365223A7B22616D6F756E745F6D696E6F72223A3330302C2263757272656E6379223A22455552227D7D5D2C22746F74616C223A7B22616D6F756E745F6D696E6F72223A323230302C2263757272656E6379223A22455552227D7D2C227061796D656E745F746F6B656E223A22746F6B5F76697361227D7D',0);
INSERT INTO "outbox" VALUES(2,'01a21a00-e561-7515-b83a-2961c1c29fa3','orders','order.placed.v1','order_service',1795732596,X'7B227370656376657273696F6E223A22312E30222C226964223A2230316132316130302D653536312D373531352D623833612D323936316331633239666133222C22736F75726365223A226F726465725F73657276696365222C2274797065223A226F726465722E706C616365642E7631222C227375626A656374223A2230316132316130302D653536312D373531352D623833612D323936316331633239666133222C2274696D65223A22323032362D31312D32365432323A33363A33362E3036353333355A222C2264617461636F6E74656E7474797065223A226170706C69636174696F6E2F6A736F6E222C227472616365706172656E74223A2230302D63653961656233333862396663653935396135306332613239313264343136342D396666393338666133313036656131352D3031222C2264617461223A7B226F72646572223A7B22637573746F6D65725F656D61696C223A22616461406578616D706C652E636F6D222C226974656D73223A5B7B22736B75223A226D617267686572697461222C226E616D65223A2250697A7A61204D617267686572697461222C227175616E74697479223A322C22756E69745F7072696365223A7B22616D6F756E745F6D696E6F72223A3935302C2263757272656E6379223A22455552227D7D2C7B22736B75223A22636F6C61222C226E616D65223A22436F6C6120302E3333206C222C227175616E74697479223A312C22756E69745F7072696365223A7B22616D6F756E745F6D696E6F72223A3330302C2263757272656E6379223A22455552227D7D5D2C22746F74616C223A7B22616D6F756E745F6D696E6F72223A323230302C2263757272656E6379223A22455552227D7D2C227061796D656E745F746F6B656E223A22746F6B5F6465636C696E6564227D7D',0);
CREATE TABLE timeline (
	event_id VARCHAR NOT NULL, 
	position INTEGER NOT NULL, 
	order_id VARCHAR NOT NULL, 
	type VARCHAR NOT NULL, 
	at DATETIME NOT NULL, 
	detail JSON NOT NULL, 
	PRIMARY KEY (event_id)
);
INSERT INTO "timeline" VALUES('01a21a00-80d5-7070-9aea-6d486508d363',0,'01a21a00-7a51-77ff-9d84-a1b9a4d225b4','payment.declined.v1','2026-11-26 22:36:10.325504','{"reason":"card_declined","attempts":1}');
INSERT INTO "timeline" VALUES('01a21a00-80e5-7629-9c1f-1d7a6fcad68d',1,'01a21a00-7a51-77ff-9d84-a1b9a4d225b4','notification.delivered.v1','2026-11-26 22:36:10.341024','{"channel":"email","notice":"decline","attempts":1}');
INSERT INTO "timeline" VALUES('01a21a00-8325-7410-9e57-61fa8ba44108',0,'01a21a00-7a10-70b3-b61d-4ef85ea69beb','payment.succeeded.v1','2026-11-26 22:36:10.917558','{"amount":{"amount_minor":2200,"currency":"EUR"},"charge_id":"01a21a00-8320-72c3-b970-9d41003c3122","attempts":1}');
INSERT INTO "timeline" VALUES('01a21a00-8337-76c6-8cbc-54196c8dd035',1,'01a21a00-7a10-70b3-b61d-4ef85ea69beb','notification.delivered.v1','2026-11-26 22:36:10.935787','{"channel":"email","notice":"receipt","attempts":1}');
INSERT INTO "timeline" VALUES('01a21a00-8337-76c6-8cbc-541a9978584e',2,'01a21a00-7a10-70b3-b61d-4ef85ea69beb','notification.delivered.v1','2026-11-26 22:36:10.935934','{"channel":"sms","notice":"receipt","attempts":1}');
INSERT INTO "timeline" VALUES('01a21a00-8337-76c6-8cbc-541b699473de',3,'01a21a00-7a10-70b3-b61d-4ef85ea69beb','notification.delivered.v1','2026-11-26 22:36:10.935996','{"channel":"restaurant","notice":"kitchen_ticket","attempts":1}');
INSERT INTO "timeline" VALUES('01a21a00-9204-7169-a154-8b8db7c1cbbf',0,'01a21a00-7a23-70f9-94e8-32020cfae8f8','payment.succeeded.v1','2026-11-26 22:36:14.724986','{"amount":{"amount_minor":2200,"currency":"EUR"},"charge_id":"01a21a00-9203-7738-88e4-ab0246cce4c3","attempts":2}');
INSERT INTO "timeline" VALUES('01a21a00-9209-73a1-81dd-e1a7b89d6165',1,'01a21a00-7a23-70f9-94e8-32020cfae8f8','notification.delivered.v1','2026-11-26 22:36:14.729903','{"channel":"email","notice":"receipt","attempts":1}');
INSERT INTO "timeline" VALUES('01a21a00-920b-7498-9ecf-3df002347419',2,'01a21a00-7a23-70f9-94e8-32020cfae8f8','notification.delivered.v1','2026-11-26 22:36:14.731831','{"channel":"restaurant","notice":"kitchen_ticket","attempts":1}');
INSERT INTO "timeline" VALUES('01a21a00-b0a6-7469-99a4-b287994a8e4f',0,'01a21a00-7a64-74a2-ba10-253eac2806ab','payment.stalled.v1','2026-11-26 22:36:22.566034','{"error":"GatewayUnavailable: the gateway answers 503 Service Unavailable","attempts":3}');
INSERT INTO "timeline" VALUES('01a21a00-bc9b-716b-8862-75c40c92ad09',0,'01a21a00-b4e9-7713-a619-729c8624f4d0','payment.succeeded.v1','2026-11-26 22:36:25.627022','{"amount":{"amount_minor":2200,"currency":"EUR"},"charge_id":"01a21a00-bc9a-7267-9771-2c2f057b4311","attempts":1}');
CREATE INDEX outbox_order ON outbox (returns, id);
CREATE INDEX open_orders ON orders (quiet_since) WHERE quiet_since IS NOT NULL;
CREATE INDEX timeline_of_order ON timeline (order_id, position);
COMMIT;
