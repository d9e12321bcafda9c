PRAGMA journal_mode=WAL;
BEGIN TRANSACTION;
CREATE TABLE notifications (
	idempotency_key VARCHAR NOT NULL, 
	order_id VARCHAR NOT NULL, 
	channel VARCHAR NOT NULL, 
	notice VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	attempts INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	event_id VARCHAR NOT NULL, 
	error VARCHAR, 
	PRIMARY KEY (idempotency_key)
);
INSERT INTO "notifications" VALUES('01a21a00-7a51-77ff-9d84-a1b9a4d225b4/email/decline','01a21a00-7a51-77ff-9d84-a1b9a4d225b4','email','decline','delivered',1,'2026-11-26 22:36:10.341024','01a21a00-80e5-7629-9c1f-1d7a6fcad68d',NULL);
INSERT INTO "notifications" VALUES('01a21a00-7a10-70b3-b61d-4ef85ea69beb/email/receipt','01a21a00-7a10-70b3-b61d-4ef85ea69beb','email','receipt','delivered',1,'2026-11-26 22:36:10.935787','01a21a00-8337-76c6-8cbc-54196c8dd035',NULL);
INSERT INTO "notifications" VALUES('01a21a00-7a10-70b3-b61d-4ef85ea69beb/sms/receipt','01a21a00-7a10-70b3-b61d-4ef85ea69beb','sms','receipt','delivered',1,'2026-11-26 22:36:10.935934','01a21a00-8337-76c6-8cbc-541a9978584e',NULL);
INSERT INTO "notifications" VALUES('01a21a00-7a10-70b3-b61d-4ef85ea69beb/restaurant/kitchen_ticket','01a21a00-7a10-70b3-b61d-4ef85ea69beb','restaurant','kitchen_ticket','delivered',1,'2026-11-26 22:36:10.935996','01a21a00-8337-76c6-8cbc-541b699473de',NULL);
INSERT INTO "notifications" VALUES('01a21a00-7a23-70f9-94e8-32020cfae8f8/email/receipt','01a21a00-7a23-70f9-94e8-32020cfae8f8','email','receipt','delivered',1,'2026-11-26 22:36:14.729903','01a21a00-9209-73a1-81dd-e1a7b89d6165',NULL);
INSERT INTO "notifications" VALUES('01a21a00-7a23-70f9-94e8-32020cfae8f8/restaurant/kitchen_ticket','01a21a00-7a23-70f9-94e8-32020cfae8f8','restaurant','kitchen_ticket','delivered',1,'2026-11-26 22:36:14.731831','01a21a00-920b-7498-9ecf-3df002347419',NULL);
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
CREATE INDEX outbox_order ON outbox (returns, id);
CREATE INDEX ix_notifications_order_id ON notifications (order_id);
COMMIT;
