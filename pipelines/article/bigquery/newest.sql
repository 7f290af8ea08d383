-- Views over the tables of pipelines/bigquery.yaml that show the newest revision of each result once, whichever way of writing was chosen. All
-- else here reads them.
--
--   bq query --use_legacy_sql=false < pipelines/article/bigquery/newest.sql
CREATE OR REPLACE VIEW tocsin.login_attempts AS
SELECT * FROM tocsin.login_attempts_row
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY result_id ORDER BY revision DESC) = 1;

CREATE OR REPLACE VIEW tocsin.attacked_logins AS
SELECT * FROM tocsin.attacked_logins_row
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY result_id ORDER BY revision DESC) = 1;

CREATE OR REPLACE VIEW tocsin.alerts AS
SELECT * EXCEPT (`row`), JSON_VALUE(`row`, '$.source_ip') AS source_ip, JSON_VALUE(`row`, '$.username') AS username
FROM tocsin.attacked_logins_alert
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY result_id ORDER BY revision DESC) = 1;

-- What the pipeline could not use, as it came.
CREATE OR REPLACE VIEW tocsin.unreadable AS
SELECT event_time, stream, reason, position, JSON_VALUE(SAFE.PARSE_JSON(payload), '$.detail') AS detail, JSON_VALUE(SAFE.PARSE_JSON(payload), '$.raw') AS raw
FROM tocsin.lines_error
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY result_id ORDER BY revision DESC) = 1;
