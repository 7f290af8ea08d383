-- Applies the models of train.sql to the last two hours; schedule it hourly. Its tables are what a dashboard shows, and what `file_lines` or a message
-- bus may bring back as a stream or a table of addresses.

CREATE TABLE IF NOT EXISTS tocsin.suspected (source_ip STRING, hour TIMESTAMP, attempts INT64, users_max INT64, probability FLOAT64, judged TIMESTAMP)
PARTITION BY DATE(hour)
CLUSTER BY source_ip;

-- An hour that is judged again, since late logins came, takes the place of its older judgement.
MERGE tocsin.suspected AS s
USING (
  SELECT
    source_ip,
    hour,
    attempts,
    users_max,
    (SELECT p.prob FROM UNNEST(predicted_attacked_probs) AS p WHERE p.label) AS probability
  FROM ML.PREDICT(MODEL tocsin.attacks, (
    SELECT * FROM tocsin.login_features(TIMESTAMP_SUB(TIMESTAMP_TRUNC(CURRENT_TIMESTAMP(), HOUR), INTERVAL 2 HOUR), CURRENT_TIMESTAMP())
  ))
) AS n
ON s.source_ip = n.source_ip AND s.hour = n.hour
WHEN MATCHED THEN UPDATE SET attempts = n.attempts, users_max = n.users_max, probability = n.probability, judged = CURRENT_TIMESTAMP()
WHEN NOT MATCHED THEN INSERT (source_ip, hour, attempts, users_max, probability, judged)
  VALUES (n.source_ip, n.hour, n.attempts, n.users_max, n.probability, CURRENT_TIMESTAMP());

-- Addresses that the model suspects and the IDS has not seen: the ones worth a look.
SELECT s.*
FROM tocsin.suspected AS s
WHERE s.probability > 0.9
  AND s.hour >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 1 DAY)
  AND NOT EXISTS (SELECT 1 FROM tocsin.alerts AS a WHERE a.source_ip = s.source_ip AND a.event_time >= TIMESTAMP_SUB(s.hour, INTERVAL 1 DAY))
ORDER BY s.probability DESC;

-- What is like nothing usual, without a label.
SELECT source_ip, hour, attempts, users_max, normalized_distance
FROM ML.DETECT_ANOMALIES(MODEL tocsin.usual, STRUCT(0.02 AS contamination), (
  SELECT * FROM tocsin.login_features(TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 1 DAY), CURRENT_TIMESTAMP())
))
WHERE is_anomaly
ORDER BY normalized_distance DESC;
