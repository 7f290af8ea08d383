-- A model of login attempts: how likely is it that an address which tries to log in attacks, by what it did in that hour? What is known of addresses
-- that the IDS saw (the joined alerts) teaches it. Leave `having` out of the pipeline's window, or the model sees only addresses that try often.
--
-- newest.sql makes the views. Train it again when behaviour changes; apply.sql uses it.

-- One row an address and hour. The query is a table function, so that training and applying cannot differ.
CREATE OR REPLACE TABLE FUNCTION tocsin.login_features(since TIMESTAMP, until TIMESTAMP) AS
SELECT
  source_ip,
  hour,
  COUNT(*) AS windows,
  SUM(login_attempts) AS attempts,
  MAX(login_attempts) AS attempts_max,
  IFNULL(STDDEV(login_attempts), 0) AS attempts_spread,
  MAX(users) AS users_max,
  SAFE_DIVIDE(SUM(users), SUM(login_attempts)) AS users_per_attempt,
  EXTRACT(HOUR FROM hour) AS hour_of_day,
  EXTRACT(DAYOFWEEK FROM hour) IN (1, 7) AS weekend
FROM (
  SELECT source_ip, login_attempts, users, TIMESTAMP_TRUNC(window_start, HOUR) AS hour
  FROM tocsin.login_attempts AS w -- the view's own name would hide the column
  WHERE event_time >= since AND event_time < TIMESTAMP_ADD(until, INTERVAL 1 HOUR) AND window_start >= since AND window_start < until
)
GROUP BY source_ip, hour;

-- Two weeks to learn from; the last one is kept to judge by.
CREATE OR REPLACE MODEL tocsin.attacks
OPTIONS (
  model_type = 'LOGISTIC_REG',
  input_label_cols = ['attacked'],
  auto_class_weights = TRUE,
  data_split_method = 'NO_SPLIT',
  enable_global_explain = TRUE
) AS
SELECT
  f.* EXCEPT (source_ip, hour),
  EXISTS (
    SELECT 1 FROM tocsin.alerts AS a
    WHERE a.source_ip = f.source_ip AND a.event_time >= f.hour AND a.event_time < TIMESTAMP_ADD(f.hour, INTERVAL 1 HOUR)
  ) AS attacked
FROM tocsin.login_features(TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 21 DAY), TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 7 DAY)) AS f;

-- How good is it on the week that it has not seen?
SELECT *
FROM ML.EVALUATE(MODEL tocsin.attacks, (
  SELECT
    f.* EXCEPT (source_ip, hour),
    EXISTS (
      SELECT 1 FROM tocsin.alerts AS a
      WHERE a.source_ip = f.source_ip AND a.event_time >= f.hour AND a.event_time < TIMESTAMP_ADD(f.hour, INTERVAL 1 HOUR)
    ) AS attacked
  FROM tocsin.login_features(TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 7 DAY), CURRENT_TIMESTAMP()) AS f
));

-- What does it go by?
SELECT * FROM ML.GLOBAL_EXPLAIN(MODEL tocsin.attacks) ORDER BY attribution DESC;

-- Where no IDS teaches anything: groups of usual behaviour, and what is far from all of them.
CREATE OR REPLACE MODEL tocsin.usual
OPTIONS (model_type = 'KMEANS', num_clusters = 6, standardize_features = TRUE) AS
SELECT * EXCEPT (source_ip, hour)
FROM tocsin.login_features(TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 21 DAY), CURRENT_TIMESTAMP());
