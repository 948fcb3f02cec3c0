BEGIN TRANSACTION;
CREATE TABLE access_token (
	id INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	account VARCHAR(64) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	label VARCHAR(80) NOT NULL, 
	created_at FLOAT NOT NULL, 
	expires_at FLOAT NOT NULL, 
	CONSTRAINT pk_access_token PRIMARY KEY (id), 
	CONSTRAINT fk_access_token_account_account FOREIGN KEY(account) REFERENCES account (name) ON DELETE CASCADE, 
	CONSTRAINT uq_access_token_digest UNIQUE (digest)
);
INSERT INTO "access_token" VALUES(1,'8fd4aef940786145bce1e93781de8972d979d237b464099fb9b972a6e5d2955e','ana','api','script',1800000000.0,1801000000.0);
CREATE TABLE account (
	name VARCHAR(64) NOT NULL, 
	password VARCHAR(200) NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	created_at FLOAT NOT NULL, 
	disabled BOOLEAN NOT NULL, 
	CONSTRAINT pk_account PRIMARY KEY (name)
);
INSERT INTO "account" VALUES('ana','scrypt$p0eI/zsp2NDHrzNScri/qA==$NJH8sWDPd8eQR29pw+mfW7WETIEgju9c/Hy/IisJhHHs/2xzuoT9OT9CC2GcIVKnrEe7MOL2tslB3p/O5bGw/A==','admin',1800000000.0,0);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0009');
CREATE TABLE attempt (
	id INTEGER NOT NULL, 
	job_id VARCHAR(36) NOT NULL, 
	number INTEGER NOT NULL, 
	worker VARCHAR(128) NOT NULL, 
	started_at FLOAT NOT NULL, 
	ended_at FLOAT, 
	outcome VARCHAR(16) NOT NULL, 
	error TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_attempt PRIMARY KEY (id), 
	CONSTRAINT fk_attempt_job_id_job FOREIGN KEY(job_id) REFERENCES job (id) ON DELETE CASCADE
);
INSERT INTO "attempt" VALUES(1,'a71f53e1-4757-5460-b36e-7add0941eac8',1,'w1',1800000002.0,1800000004.0,'read','');
INSERT INTO "attempt" VALUES(2,'07039188-c189-56f0-91fc-9ddbe1b8c034',1,'w1',1800000042.0,NULL,'running','');
INSERT INTO "attempt" VALUES(3,'be8288df-722f-5fa8-8251-22d89044e088',1,'w1',1800000044.0,1800000045.0,'failed','slices are missing');
INSERT INTO "attempt" VALUES(4,'989327f4-9400-5a26-918f-0ae4fd87488b',1,'w1',1800000047.0,1800000049.0,'read','');
INSERT INTO "attempt" VALUES(5,'e4e6a098-d91b-5a57-9e1a-4f75d7ce7ee8',1,'w1',1800000053.0,1800000055.0,'read','');
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	account VARCHAR(64) NOT NULL, 
	action VARCHAR(40) NOT NULL, 
	study_id INTEGER, 
	job_id VARCHAR(36), 
	detail TEXT NOT NULL, 
	CONSTRAINT pk_audit PRIMARY KEY (id)
);
INSERT INTO "audit" VALUES(1,1800000000.0,'ana','login',NULL,NULL,'');
INSERT INTO "audit" VALUES(2,1800000061.0,'ana','survey usefulness',NULL,NULL,'');
INSERT INTO "audit" VALUES(3,1800000062.0,'ana','survey usability',NULL,NULL,'');
CREATE TABLE change_cursor (
	name VARCHAR(64) NOT NULL, 
	value INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	CONSTRAINT pk_change_cursor PRIMARY KEY (name)
);
INSERT INTO "change_cursor" VALUES('orthanc',77,1800000000.0);
CREATE TABLE decision (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	job_id VARCHAR(36), 
	at FLOAT NOT NULL, 
	verdict VARCHAR(16) NOT NULL, 
	route VARCHAR(40), 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_decision PRIMARY KEY (id), 
	CONSTRAINT fk_decision_study_id_study FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
);
INSERT INTO "decision" VALUES(1,1,'a71f53e1-4757-5460-b36e-7add0941eac8',1800000000.0,'route','brain','because');
INSERT INTO "decision" VALUES(2,2,'443b22d8-3a9b-5222-82a0-23c6439121c4',1800000040.0,'route','brain','because');
INSERT INTO "decision" VALUES(3,3,'07039188-c189-56f0-91fc-9ddbe1b8c034',1800000041.0,'route','brain','because');
INSERT INTO "decision" VALUES(4,4,'be8288df-722f-5fa8-8251-22d89044e088',1800000043.0,'route','brain','because');
INSERT INTO "decision" VALUES(5,4,'be8288df-722f-5fa8-8251-22d89044e088',1800000045.0,'fail','brain','slices are missing');
INSERT INTO "decision" VALUES(6,5,'989327f4-9400-5a26-918f-0ae4fd87488b',1800000046.0,'route','brain','because');
INSERT INTO "decision" VALUES(7,6,'e4e6a098-d91b-5a57-9e1a-4f75d7ce7ee8',1800000052.0,'route','brain','because');
INSERT INTO "decision" VALUES(8,7,'f8d43481-18fe-5667-80df-b5c2359f39e7',1800000090.0,'route','brain','because');
INSERT INTO "decision" VALUES(9,7,NULL,1800000091.0,'skip',NULL,'the study was deleted from Orthanc: 1 readings cancelled');
INSERT INTO "decision" VALUES(10,1,NULL,1800000003.0,'skip',NULL,'no route reads this study');
CREATE TABLE "delivery" (
	id INTEGER NOT NULL, 
	job_id VARCHAR(36) NOT NULL, 
	destination VARCHAR(40) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	attempts INTEGER DEFAULT '0' NOT NULL, 
	control_id VARCHAR(20) DEFAULT ('') NOT NULL, 
	payload BLOB, 
	receipt TEXT DEFAULT ('') NOT NULL, 
	error TEXT DEFAULT ('') NOT NULL, 
	first_try_at FLOAT, 
	done_at FLOAT, 
	kind VARCHAR(16) DEFAULT 'result' NOT NULL, 
	refusals INTEGER DEFAULT '0' NOT NULL, 
	created_at FLOAT DEFAULT '0' NOT NULL, 
	next_try_at FLOAT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_delivery PRIMARY KEY (id), 
	CONSTRAINT fk_delivery_job_id_job FOREIGN KEY(job_id) REFERENCES job (id) ON DELETE CASCADE, 
	CONSTRAINT uq_delivery_job_id_destination_kind UNIQUE (job_id, destination, kind)
);
INSERT INTO "delivery" VALUES(1,'a71f53e1-4757-5460-b36e-7add0941eac8','archive','done',1,'',NULL,'stored','',NULL,1800000004.0,'result',0,1800000003.0,0.0);
INSERT INTO "delivery" VALUES(2,'a71f53e1-4757-5460-b36e-7add0941eac8','pacs2','done',2,'',NULL,'AA','',1800000010.0,1800000031.0,'result',0,1800000003.0,1800000020.0);
INSERT INTO "delivery" VALUES(3,'a71f53e1-4757-5460-b36e-7add0941eac8','ris','done',2,'C1',X'4D53487C5E7E5C267C4D454441490D5049447C7C7C4D524E2D310D','AA','',1800000010.0,1800000031.0,'result',0,1800000003.0,1800000020.0);
INSERT INTO "delivery" VALUES(4,'989327f4-9400-5a26-918f-0ae4fd87488b','archive','done',1,'',NULL,'stored','',NULL,1800000049.0,'result',0,1800000048.0,0.0);
INSERT INTO "delivery" VALUES(5,'989327f4-9400-5a26-918f-0ae4fd87488b','ris','parked',1,'C9',X'4D53487C5E7E5C267C4D454441490D5049447C7C7C4D524E2D325E5E5E484F53500D','','AE: no such order',1800000061.0,1800000062.0,'result',0,1800000048.0,0.0);
INSERT INTO "delivery" VALUES(6,'e4e6a098-d91b-5a57-9e1a-4f75d7ce7ee8','archive','pending',0,'',NULL,'','',NULL,NULL,'result',0,1800000054.0,0.0);
INSERT INTO "delivery" VALUES(7,'e4e6a098-d91b-5a57-9e1a-4f75d7ce7ee8','ris','pending',0,'C8',X'4D53487C5E7E5C267C4D454441490D5049447C7C7C4D524E2D325E5E5E484F53500D','','',NULL,NULL,'result',0,1800000054.0,0.0);
CREATE TABLE delivery_try (
	id INTEGER NOT NULL, 
	delivery_id INTEGER NOT NULL, 
	outcome VARCHAR(16) NOT NULL, 
	text TEXT NOT NULL, 
	count INTEGER NOT NULL, 
	first_at FLOAT NOT NULL, 
	last_at FLOAT NOT NULL, 
	CONSTRAINT pk_delivery_try PRIMARY KEY (id), 
	CONSTRAINT fk_delivery_try_delivery_id_delivery FOREIGN KEY(delivery_id) REFERENCES delivery (id) ON DELETE CASCADE
);
INSERT INTO "delivery_try" VALUES(1,2,'retry','no answer',1,1800000011.0,1800000011.0);
INSERT INTO "delivery_try" VALUES(2,2,'done','AA',1,1800000031.0,1800000031.0);
INSERT INTO "delivery_try" VALUES(3,3,'retry','no answer',1,1800000011.0,1800000011.0);
INSERT INTO "delivery_try" VALUES(4,3,'done','AA',1,1800000031.0,1800000031.0);
INSERT INTO "delivery_try" VALUES(5,5,'parked','AE: no such order',1,1800000062.0,1800000062.0);
CREATE TABLE destination (
	name VARCHAR(40) NOT NULL, 
	open BOOLEAN NOT NULL, 
	failures INTEGER NOT NULL, 
	since FLOAT NOT NULL, 
	next_try_at FLOAT NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_destination PRIMARY KEY (name)
);
INSERT INTO "destination" VALUES('ris',1,3,1800000000.0,1800000060.0,'no answer');
CREATE TABLE edit (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	job_id VARCHAR(36) NOT NULL, 
	orthanc_id VARCHAR(64) NOT NULL, 
	series_uid VARCHAR(64) NOT NULL, 
	sop_uid VARCHAR(64) NOT NULL, 
	kind VARCHAR(8) NOT NULL, 
	named BOOLEAN NOT NULL, 
	digest VARCHAR(32) NOT NULL, 
	tool VARCHAR(160) DEFAULT '' NOT NULL, 
	seen_at FLOAT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT DEFAULT '' NOT NULL, 
	verdict VARCHAR(16) DEFAULT '' NOT NULL, 
	sent_at FLOAT, 
	not_before FLOAT DEFAULT '0' NOT NULL, 
	token VARCHAR(36), 
	claimed_at FLOAT, 
	tries INTEGER DEFAULT '0' NOT NULL, 
	compared_at FLOAT, 
	CONSTRAINT pk_edit PRIMARY KEY (id), 
	CONSTRAINT fk_edit_study_id_study FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE, 
	CONSTRAINT fk_edit_job_id_job FOREIGN KEY(job_id) REFERENCES job (id) ON DELETE CASCADE, 
	CONSTRAINT uq_edit_study_id_sop_uid UNIQUE (study_id, sop_uid)
);
INSERT INTO "edit" VALUES(1,1,'a71f53e1-4757-5460-b36e-7add0941eac8','seg-1.2.3-1','1.2.3.50','1.2.3.50.1','seg',0,'d1','Reading Room Tools Contour Desk',1800000070.0,'compared','','',NULL,0.0,NULL,NULL,1,1800000071.0);
INSERT INTO "edit" VALUES(2,1,'a71f53e1-4757-5460-b36e-7add0941eac8','seg-1.2.3-2','1.2.3.50','1.2.3.50.2','seg',0,'d1','Reading Room Tools Contour Desk',1800000080.0,'pending','','',NULL,0.0,NULL,NULL,0,NULL);
CREATE TABLE edit_comparison (
	id INTEGER NOT NULL, 
	edit_id INTEGER NOT NULL, 
	structure VARCHAR(64) NOT NULL, 
	outcome VARCHAR(16) NOT NULL, 
	quantity VARCHAR(64) NOT NULL, 
	unit VARCHAR(32) NOT NULL, 
	ours FLOAT, 
	theirs FLOAT, 
	dice FLOAT, 
	hd95_mm FLOAT, 
	segment INTEGER, 
	edited_segment INTEGER, 
	CONSTRAINT pk_edit_comparison PRIMARY KEY (id), 
	CONSTRAINT fk_edit_comparison_edit_id_edit FOREIGN KEY(edit_id) REFERENCES edit (id) ON DELETE CASCADE
);
INSERT INTO "edit_comparison" VALUES(1,1,'Brain','matched','volume','ml',1000.0,1100.0,0.9,NULL,1,NULL);
CREATE TABLE imaging_order (
	id INTEGER NOT NULL, 
	placer VARCHAR(128) NOT NULL, 
	accession VARCHAR(64) NOT NULL, 
	study_uid VARCHAR(64) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	priority INTEGER NOT NULL, 
	ordered_at FLOAT, 
	received_at FLOAT NOT NULL, 
	control_id VARCHAR(64) NOT NULL, 
	content JSON NOT NULL, 
	CONSTRAINT pk_imaging_order PRIMARY KEY (id), 
	CONSTRAINT uq_imaging_order_placer UNIQUE (placer)
);
INSERT INTO "imaging_order" VALUES(1,'P1','A1.2.3','','active',3,1799996400.0,1799996500.0,'M1','{"placer":"P1","filler":"F1","accession":"A1.2.3","study_uid":"","priority":3,"patient_id":"MRN-2","patient_id_authority":"HOSP","patient_name":"Doe^Jane","birth_date":"","sex":"","procedure":["MRB","MR brain","L"],"requested_procedure_id":"","scheduled_step_id":"","modality":"","visit_number":"","ordered_at":1799996400.0}');
CREATE TABLE job (
	id VARCHAR(36) NOT NULL, 
	study_id INTEGER NOT NULL, 
	route VARCHAR(40) NOT NULL, 
	slot VARCHAR(64) DEFAULT '' NOT NULL, 
	model VARCHAR(64) NOT NULL, 
	model_version VARCHAR(64) NOT NULL, 
	modality VARCHAR(16) DEFAULT '' NOT NULL, 
	series JSON NOT NULL, 
	sources_hash VARCHAR(64) NOT NULL, 
	sources_count INTEGER NOT NULL, 
	queue VARCHAR(16) NOT NULL, 
	priority INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	predecessor VARCHAR(36), 
	destinations JSON NOT NULL, 
	quiet_s FLOAT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT DEFAULT '' NOT NULL, 
	attempts INTEGER DEFAULT '0' NOT NULL, 
	crashes INTEGER DEFAULT '0' NOT NULL, 
	not_before FLOAT DEFAULT '0' NOT NULL, 
	sent_at FLOAT, 
	lease_owner VARCHAR(128), 
	lease_token VARCHAR(36), 
	lease_until FLOAT, 
	storing_at FLOAT, 
	stored_at FLOAT, 
	created_at FLOAT NOT NULL, 
	finished_at FLOAT, 
	results JSON, 
	measurements JSON, 
	warnings JSON, verdict VARCHAR(16), plausibility JSON, lease_beat INTEGER DEFAULT '0' NOT NULL, lease_process VARCHAR(160) DEFAULT '' NOT NULL, failure VARCHAR(16) DEFAULT '' NOT NULL, retried_at FLOAT, salt VARCHAR(80) DEFAULT '' NOT NULL, content_digest VARCHAR(64) DEFAULT '' NOT NULL, figures JSON, 
	CONSTRAINT pk_job PRIMARY KEY (id), 
	CONSTRAINT fk_job_predecessor_job FOREIGN KEY(predecessor) REFERENCES job (id), 
	CONSTRAINT fk_job_study_id_study FOREIGN KEY(study_id) REFERENCES study (id)
);
INSERT INTO "job" VALUES('a71f53e1-4757-5460-b36e-7add0941eac8',1,'brain','','mr_brain','1','MR','["s"]','hash-1',50,'cpu',6,1,NULL,'["archive","ris"]',3.0,'done','',1,0,0.0,1800000001.0,'w1',NULL,NULL,1800000003.0,1800000004.0,1800000000.0,1800000031.0,'{"seg":{"kind":"seg","sop_uid":"9.0","series_uid":"90","orthanc_id":"seg-1"},"sr":{"kind":"sr","sop_uid":"9.1","series_uid":"91","orthanc_id":"sr-1"},"sc":{"kind":"sc","sop_uid":"9.2","series_uid":"92","orthanc_id":"sc-1"}}','[{"segment_number":1,"segment_name":"Brain","quantity":"volume","value":1234.5,"unit":"ml"}]','["thin"]','plausible','{"verdict":"plausible","summary":"1 of 1 checks passed","checks":[]}',0,'host:1:1','',NULL,'','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','{"output.1.volume_ml":1234.5}');
INSERT INTO "job" VALUES('443b22d8-3a9b-5222-82a0-23c6439121c4',2,'brain','','mr_brain','1','MR','["s"]','hash-1',50,'cpu',6,1,NULL,'["archive","ris"]',3.0,'pending','',0,0,0.0,NULL,NULL,NULL,NULL,NULL,NULL,1800000040.0,NULL,NULL,NULL,NULL,NULL,NULL,0,'','',NULL,'','',NULL);
INSERT INTO "job" VALUES('07039188-c189-56f0-91fc-9ddbe1b8c034',3,'brain','','mr_brain','1','MR','["s"]','hash-1',50,'cpu',6,1,NULL,'["archive","ris"]',3.0,'running','',1,0,0.0,NULL,'w1','cb317c6d-59da-437b-b092-6c15fcf9ab38',1800000062.0,NULL,NULL,1800000041.0,NULL,NULL,NULL,NULL,NULL,NULL,0,'host:1:1','',NULL,'','',NULL);
INSERT INTO "job" VALUES('be8288df-722f-5fa8-8251-22d89044e088',4,'brain','','mr_brain','1','MR','["s"]','hash-1',50,'cpu',6,1,NULL,'["archive","ris"]',3.0,'failed','slices are missing',1,0,0.0,NULL,'w1',NULL,NULL,NULL,NULL,1800000043.0,1800000045.0,NULL,NULL,NULL,'refused',NULL,0,'','images',NULL,'','',NULL);
INSERT INTO "job" VALUES('989327f4-9400-5a26-918f-0ae4fd87488b',5,'brain','','mr_brain','1','MR','["s"]','hash-1',50,'cpu',6,1,NULL,'["archive","ris"]',3.0,'failed','ris: AE: no such order',1,0,0.0,NULL,'w1',NULL,NULL,1800000048.0,1800000049.0,1800000046.0,1800000062.0,'{"sr":{"kind":"sr","sop_uid":"9.9","series_uid":"99","orthanc_id":"sr-9"}}','[]','[]',NULL,'null',0,'','delivery',NULL,'','',NULL);
INSERT INTO "job" VALUES('e4e6a098-d91b-5a57-9e1a-4f75d7ce7ee8',6,'brain','','mr_brain','1','MR','["s"]','hash-1',50,'cpu',6,1,NULL,'["archive","ris"]',3.0,'delivering','',1,0,0.0,NULL,'w1',NULL,NULL,1800000054.0,NULL,1800000052.0,NULL,'{}','[]','[]',NULL,'null',0,'','',NULL,'','',NULL);
INSERT INTO "job" VALUES('f8d43481-18fe-5667-80df-b5c2359f39e7',7,'brain','','mr_brain','1','MR','["s"]','hash-1',50,'cpu',6,1,NULL,'["archive","ris"]',3.0,'cancelled','the study was deleted from Orthanc',0,0,0.0,NULL,NULL,NULL,NULL,NULL,NULL,1800000090.0,1800000091.0,NULL,NULL,NULL,NULL,NULL,0,'','deleted',NULL,'','',NULL);
CREATE TABLE lease (
	name VARCHAR(40) NOT NULL, 
	holder VARCHAR(160) NOT NULL, 
	token VARCHAR(36) NOT NULL, 
	beat INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	CONSTRAINT pk_lease PRIMARY KEY (name)
);
INSERT INTO "lease" VALUES('router','host:1:1','90434b27-9596-4475-8912-4e282fdda609',0,1800000000.0);
CREATE TABLE meta (
	"key" VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_meta PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('log_key','1efdbcb9b998b043a7619818c633162c');
INSERT INTO "meta" VALUES('first_start','1799999000.0');
CREATE TABLE model (
	name VARCHAR(64) NOT NULL, 
	version VARCHAR(64) NOT NULL, 
	available BOOLEAN NOT NULL, 
	reason TEXT DEFAULT '' NOT NULL, 
	seen_at FLOAT NOT NULL, 
	CONSTRAINT pk_model PRIMARY KEY (name)
);
INSERT INTO "model" VALUES('mr_brain','1',1,'',1800000060.0);
CREATE TABLE model_card (
	name VARCHAR(64) NOT NULL, 
	version VARCHAR(64) NOT NULL, 
	text TEXT NOT NULL, 
	figures TEXT NOT NULL, 
	reference JSON, 
	missing TEXT NOT NULL, 
	seen_at FLOAT NOT NULL, 
	CONSTRAINT pk_model_card PRIMARY KEY (name, version)
);
INSERT INTO "model_card" VALUES('mr_brain','1','# Card','','{"cases":3}','',1800000060.0);
CREATE TABLE patient_alias (
	id INTEGER NOT NULL, 
	prior_id VARCHAR(128) NOT NULL, 
	prior_authority VARCHAR(128) NOT NULL, 
	patient_id VARCHAR(128) NOT NULL, 
	patient_authority VARCHAR(128) NOT NULL, 
	control_id VARCHAR(64) NOT NULL, 
	at FLOAT NOT NULL, 
	CONSTRAINT pk_patient_alias PRIMARY KEY (id), 
	CONSTRAINT uq_patient_alias_prior_id_prior_authority UNIQUE (prior_id, prior_authority)
);
INSERT INTO "patient_alias" VALUES(1,'MRN-1','HOSP','MRN-2','HOSP','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee',1800000060.0);
CREATE TABLE result_object (
	orthanc_id VARCHAR(64) NOT NULL, 
	job_id VARCHAR(36) NOT NULL, 
	kind VARCHAR(8) NOT NULL, 
	series_uid VARCHAR(64) NOT NULL, 
	sop_uid VARCHAR(64) NOT NULL, content BLOB, 
	CONSTRAINT pk_result_object PRIMARY KEY (orthanc_id), 
	CONSTRAINT fk_result_object_job_id_job FOREIGN KEY(job_id) REFERENCES job (id) ON DELETE CASCADE
);
INSERT INTO "result_object" VALUES('seg-1','a71f53e1-4757-5460-b36e-7add0941eac8','seg','90','9.0',NULL);
INSERT INTO "result_object" VALUES('sr-1','a71f53e1-4757-5460-b36e-7add0941eac8','sr','91','9.1',NULL);
INSERT INTO "result_object" VALUES('sc-1','a71f53e1-4757-5460-b36e-7add0941eac8','sc','92','9.2',NULL);
INSERT INTO "result_object" VALUES('sr-9','989327f4-9400-5a26-918f-0ae4fd87488b','sr','99','9.9',NULL);
CREATE TABLE series (
	orthanc_id VARCHAR(64) NOT NULL, 
	study_id INTEGER NOT NULL, 
	series_uid VARCHAR(64) NOT NULL, 
	instances INTEGER NOT NULL, 
	expected JSON NOT NULL, 
	last_instance_at FLOAT NOT NULL, 
	CONSTRAINT pk_series PRIMARY KEY (orthanc_id), 
	CONSTRAINT fk_series_study_id_study FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
);
INSERT INTO "series" VALUES('s-1.2.3',1,'1.2.3.1',50,'{}',1800000000.0);
INSERT INTO "series" VALUES('s-1.2.4',2,'1.2.4.1',50,'{}',1800000040.0);
INSERT INTO "series" VALUES('s-1.2.5',3,'1.2.5.1',50,'{}',1800000041.0);
INSERT INTO "series" VALUES('s-1.2.6',4,'1.2.6.1',50,'{}',1800000043.0);
INSERT INTO "series" VALUES('s-1.2.7',5,'1.2.7.1',50,'{}',1800000046.0);
INSERT INTO "series" VALUES('s-1.2.8',6,'1.2.8.1',50,'{}',1800000052.0);
INSERT INTO "series" VALUES('s-1.2.9',7,'1.2.9.1',50,'{}',1800000090.0);
CREATE TABLE stamp (
	job_id VARCHAR(36) NOT NULL, 
	name VARCHAR(24) NOT NULL, 
	at FLOAT NOT NULL, 
	CONSTRAINT pk_stamp PRIMARY KEY (job_id, name), 
	CONSTRAINT fk_stamp_job_id_job FOREIGN KEY(job_id) REFERENCES job (id) ON DELETE CASCADE
);
INSERT INTO "stamp" VALUES('a71f53e1-4757-5460-b36e-7add0941eac8','ordered',1799996400.0);
INSERT INTO "stamp" VALUES('a71f53e1-4757-5460-b36e-7add0941eac8','acquired',1799999400.0);
INSERT INTO "stamp" VALUES('a71f53e1-4757-5460-b36e-7add0941eac8','first_instance',1800000000.0);
INSERT INTO "stamp" VALUES('a71f53e1-4757-5460-b36e-7add0941eac8','last_instance',1800000000.0);
INSERT INTO "stamp" VALUES('a71f53e1-4757-5460-b36e-7add0941eac8','study_complete',1800000000.0);
INSERT INTO "stamp" VALUES('a71f53e1-4757-5460-b36e-7add0941eac8','enqueued',1800000001.0);
INSERT INTO "stamp" VALUES('a71f53e1-4757-5460-b36e-7add0941eac8','started',1800000002.0);
INSERT INTO "stamp" VALUES('a71f53e1-4757-5460-b36e-7add0941eac8','stored',1800000004.0);
INSERT INTO "stamp" VALUES('a71f53e1-4757-5460-b36e-7add0941eac8','oru_sent',1800000030.0);
INSERT INTO "stamp" VALUES('a71f53e1-4757-5460-b36e-7add0941eac8','oru_acknowledged',1800000031.0);
INSERT INTO "stamp" VALUES('443b22d8-3a9b-5222-82a0-23c6439121c4','acquired',1799999400.0);
INSERT INTO "stamp" VALUES('443b22d8-3a9b-5222-82a0-23c6439121c4','first_instance',1800000040.0);
INSERT INTO "stamp" VALUES('443b22d8-3a9b-5222-82a0-23c6439121c4','last_instance',1800000040.0);
INSERT INTO "stamp" VALUES('443b22d8-3a9b-5222-82a0-23c6439121c4','study_complete',1800000040.0);
INSERT INTO "stamp" VALUES('07039188-c189-56f0-91fc-9ddbe1b8c034','acquired',1799999400.0);
INSERT INTO "stamp" VALUES('07039188-c189-56f0-91fc-9ddbe1b8c034','first_instance',1800000041.0);
INSERT INTO "stamp" VALUES('07039188-c189-56f0-91fc-9ddbe1b8c034','last_instance',1800000041.0);
INSERT INTO "stamp" VALUES('07039188-c189-56f0-91fc-9ddbe1b8c034','study_complete',1800000041.0);
INSERT INTO "stamp" VALUES('07039188-c189-56f0-91fc-9ddbe1b8c034','started',1800000042.0);
INSERT INTO "stamp" VALUES('be8288df-722f-5fa8-8251-22d89044e088','acquired',1799999400.0);
INSERT INTO "stamp" VALUES('be8288df-722f-5fa8-8251-22d89044e088','first_instance',1800000043.0);
INSERT INTO "stamp" VALUES('be8288df-722f-5fa8-8251-22d89044e088','last_instance',1800000043.0);
INSERT INTO "stamp" VALUES('be8288df-722f-5fa8-8251-22d89044e088','study_complete',1800000043.0);
INSERT INTO "stamp" VALUES('be8288df-722f-5fa8-8251-22d89044e088','started',1800000044.0);
INSERT INTO "stamp" VALUES('989327f4-9400-5a26-918f-0ae4fd87488b','acquired',1799999400.0);
INSERT INTO "stamp" VALUES('989327f4-9400-5a26-918f-0ae4fd87488b','first_instance',1800000046.0);
INSERT INTO "stamp" VALUES('989327f4-9400-5a26-918f-0ae4fd87488b','last_instance',1800000046.0);
INSERT INTO "stamp" VALUES('989327f4-9400-5a26-918f-0ae4fd87488b','study_complete',1800000046.0);
INSERT INTO "stamp" VALUES('989327f4-9400-5a26-918f-0ae4fd87488b','started',1800000047.0);
INSERT INTO "stamp" VALUES('989327f4-9400-5a26-918f-0ae4fd87488b','stored',1800000049.0);
INSERT INTO "stamp" VALUES('e4e6a098-d91b-5a57-9e1a-4f75d7ce7ee8','acquired',1799999400.0);
INSERT INTO "stamp" VALUES('e4e6a098-d91b-5a57-9e1a-4f75d7ce7ee8','first_instance',1800000052.0);
INSERT INTO "stamp" VALUES('e4e6a098-d91b-5a57-9e1a-4f75d7ce7ee8','last_instance',1800000052.0);
INSERT INTO "stamp" VALUES('e4e6a098-d91b-5a57-9e1a-4f75d7ce7ee8','study_complete',1800000052.0);
INSERT INTO "stamp" VALUES('e4e6a098-d91b-5a57-9e1a-4f75d7ce7ee8','started',1800000053.0);
INSERT INTO "stamp" VALUES('989327f4-9400-5a26-918f-0ae4fd87488b','oru_sent',1800000061.0);
INSERT INTO "stamp" VALUES('f8d43481-18fe-5667-80df-b5c2359f39e7','acquired',1799999400.0);
INSERT INTO "stamp" VALUES('f8d43481-18fe-5667-80df-b5c2359f39e7','first_instance',1800000090.0);
INSERT INTO "stamp" VALUES('f8d43481-18fe-5667-80df-b5c2359f39e7','last_instance',1800000090.0);
INSERT INTO "stamp" VALUES('f8d43481-18fe-5667-80df-b5c2359f39e7','study_complete',1800000090.0);
CREATE TABLE study (
	id INTEGER NOT NULL, 
	study_uid VARCHAR(64) NOT NULL, 
	orthanc_id VARCHAR(64) NOT NULL, 
	accession VARCHAR(64) DEFAULT '' NOT NULL, 
	modality VARCHAR(16) DEFAULT '' NOT NULL, 
	instances INTEGER NOT NULL, 
	expected JSON NOT NULL, 
	acquired_at FLOAT, 
	first_instance_at FLOAT NOT NULL, 
	last_instance_at FLOAT NOT NULL, 
	complete_at FLOAT, 
	due_at FLOAT, 
	deleted_at FLOAT, 
	archive_update VARCHAR(32) DEFAULT '' NOT NULL, 
	outcome_hash VARCHAR(64) DEFAULT '' NOT NULL, resent_at FLOAT, 
	CONSTRAINT pk_study PRIMARY KEY (id), 
	CONSTRAINT uq_study_orthanc_id UNIQUE (orthanc_id)
);
INSERT INTO "study" VALUES(1,'1.2.3','o-1.2.3','A1.2.3','MR',50,'{}',1799999400.0,1800000000.0,1800000000.0,NULL,1800000000.0,NULL,'u1','x',NULL);
INSERT INTO "study" VALUES(2,'1.2.4','o-1.2.4','A1.2.4','MR',50,'{}',1799999400.0,1800000040.0,1800000040.0,NULL,1800000040.0,NULL,'u1','',NULL);
INSERT INTO "study" VALUES(3,'1.2.5','o-1.2.5','A1.2.5','MR',50,'{}',1799999400.0,1800000041.0,1800000041.0,NULL,1800000500.0,NULL,'u1','',NULL);
INSERT INTO "study" VALUES(4,'1.2.6','o-1.2.6','A1.2.6','MR',50,'{}',1799999400.0,1800000043.0,1800000043.0,NULL,1800000043.0,NULL,'u1','',NULL);
INSERT INTO "study" VALUES(5,'1.2.7','o-1.2.7','A1.2.7','MR',50,'{}',1799999400.0,1800000046.0,1800000046.0,NULL,1800000046.0,NULL,'u1','',NULL);
INSERT INTO "study" VALUES(6,'1.2.8','o-1.2.8','A1.2.8','MR',50,'{}',1799999400.0,1800000052.0,1800000052.0,NULL,1800000052.0,NULL,'u1','',NULL);
INSERT INTO "study" VALUES(7,'1.2.9','o-1.2.9','A1.2.9','MR',50,'{}',1799999400.0,1800000090.0,1800000090.0,NULL,NULL,1800000091.0,'u1','',NULL);
CREATE TABLE survey_reader (
	id INTEGER NOT NULL, 
	account VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_survey_reader PRIMARY KEY (id), 
	CONSTRAINT uq_survey_reader_account UNIQUE (account)
);
INSERT INTO "survey_reader" VALUES(1,'ana');
CREATE TABLE sus_answer (
	id INTEGER NOT NULL, 
	reader_id INTEGER NOT NULL, 
	answered_at FLOAT NOT NULL, 
	q1 INTEGER NOT NULL, 
	q2 INTEGER NOT NULL, 
	q3 INTEGER NOT NULL, 
	q4 INTEGER NOT NULL, 
	q5 INTEGER NOT NULL, 
	q6 INTEGER NOT NULL, 
	q7 INTEGER NOT NULL, 
	q8 INTEGER NOT NULL, 
	q9 INTEGER NOT NULL, 
	q10 INTEGER NOT NULL, 
	CONSTRAINT pk_sus_answer PRIMARY KEY (id), 
	CONSTRAINT fk_sus_answer_reader_id_survey_reader FOREIGN KEY(reader_id) REFERENCES survey_reader (id)
);
INSERT INTO "sus_answer" VALUES(1,1,1800000062.0,3,3,3,3,3,3,3,3,3,3);
CREATE TABLE usefulness_answer (
	id INTEGER NOT NULL, 
	reader_id INTEGER NOT NULL, 
	job_id VARCHAR(36) NOT NULL, 
	answered_at FLOAT NOT NULL, 
	correct INTEGER, 
	time INTEGER, 
	changed INTEGER, 
	contours INTEGER, 
	again INTEGER, 
	comment TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_usefulness_answer PRIMARY KEY (id), 
	CONSTRAINT fk_usefulness_answer_reader_id_survey_reader FOREIGN KEY(reader_id) REFERENCES survey_reader (id), 
	CONSTRAINT fk_usefulness_answer_job_id_job FOREIGN KEY(job_id) REFERENCES job (id) ON DELETE CASCADE, 
	CONSTRAINT uq_usefulness_answer_reader_id_job_id UNIQUE (reader_id, job_id)
);
INSERT INTO "usefulness_answer" VALUES(1,1,'a71f53e1-4757-5460-b36e-7add0941eac8',1800000061.0,5,NULL,NULL,NULL,NULL,'fine');
CREATE TABLE worker (
	name VARCHAR(128) NOT NULL, 
	queues JSON NOT NULL, 
	device VARCHAR(64) NOT NULL, 
	started_at FLOAT NOT NULL, 
	seen_at FLOAT NOT NULL, 
	job_id VARCHAR(36), models JSON, alarm TEXT DEFAULT '' NOT NULL, load JSON, 
	CONSTRAINT pk_worker PRIMARY KEY (name)
);
INSERT INTO "worker" VALUES('w1','["cpu"]','cpu',1800000000.0,1800000060.0,'07039188-c189-56f0-91fc-9ddbe1b8c034','{"mr_brain":"1"}','','{"memory_bytes":1000000000.0}');
CREATE INDEX ix_imaging_order_accession ON imaging_order (accession);
CREATE INDEX ix_imaging_order_study_uid ON imaging_order (study_uid);
CREATE INDEX ix_study_accession ON study (accession);
CREATE INDEX ix_study_due_at ON study (due_at);
CREATE INDEX ix_study_study_uid ON study (study_uid);
CREATE INDEX ix_worker_seen_at ON worker (seen_at);
CREATE INDEX ix_decision_study_id ON decision (study_id);
CREATE INDEX ix_job_created_at ON job (created_at);
CREATE INDEX ix_job_state_priority_created_at ON job (state, priority, created_at);
CREATE INDEX ix_job_study_id ON job (study_id);
CREATE INDEX ix_job_study_id_route_slot_revision ON job (study_id, route, slot, revision);
CREATE INDEX ix_series_study_id ON series (study_id);
CREATE INDEX ix_attempt_job_id ON attempt (job_id);
CREATE INDEX ix_result_object_job_id ON result_object (job_id);
CREATE INDEX ix_delivery_state_destination ON delivery (state, destination);
CREATE INDEX ix_delivery_try_delivery_id ON delivery_try (delivery_id);
CREATE INDEX ix_access_token_account ON access_token (account);
CREATE INDEX ix_audit_study_id ON audit (study_id);
CREATE INDEX ix_job_finished_at ON job (finished_at);
CREATE INDEX ix_study_last_instance_at_id ON study (last_instance_at, id);
CREATE INDEX ix_usefulness_answer_job_id ON usefulness_answer (job_id);
CREATE INDEX ix_sus_answer_reader_id ON sus_answer (reader_id);
CREATE INDEX ix_edit_job_id ON edit (job_id);
CREATE INDEX ix_edit_state_compared_at ON edit (state, compared_at);
CREATE INDEX ix_edit_comparison_edit_id ON edit_comparison (edit_id);
CREATE INDEX ix_job_model_verdict ON job (model, verdict);
CREATE INDEX ix_job_state_finished_at ON job (state, finished_at);
CREATE INDEX ix_attempt_outcome ON attempt (outcome);
CREATE INDEX ix_job_model_model_version_created_at ON job (model, model_version, created_at);
COMMIT;
