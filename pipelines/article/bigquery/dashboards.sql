-- What the panels of a dashboard ask. Each reads only the partitions of its days; newest.sql makes the views. The view login_attempts has another name
-- in each query, or its own would hide the column login_attempts.

-- Attempts and addresses in each hour of the last week.
SELECT
  TIMESTAMP_TRUNC(window_start, HOUR) AS hour,
  SUM(login_attempts) AS attempts,
  COUNT(DISTINCT source_ip) AS addresses
FROM tocsin.login_attempts AS w
WHERE event_time >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 7 DAY)
GROUP BY hour
ORDER BY hour;

-- The addresses that tried most today, and on how many users at once.
SELECT
  source_ip,
  SUM(login_attempts) AS attempts,
  MAX(users) AS users_at_once,
  MIN(window_start) AS first_seen,
  MAX(window_end) AS last_seen
FROM tocsin.login_attempts AS w
WHERE event_time >= TIMESTAMP_TRUNC(CURRENT_TIMESTAMP(), DAY)
GROUP BY source_ip
ORDER BY attempts DESC
LIMIT 20;

-- Alerts by severity and day.
SELECT
  DATE(event_time) AS day,
  severity,
  COUNT(*) AS alerts,
  COUNT(DISTINCT source_ip) AS addresses
FROM tocsin.alerts
WHERE event_time >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 30 DAY)
GROUP BY day, severity
ORDER BY day, severity;

-- Users who logged in from an address that attacks, with what it tried in the hour around it.
SELECT
  a.event_time,
  a.username,
  a.source_ip,
  a.risk_score,
  SUM(w.login_attempts) AS attempts_around
FROM tocsin.alerts AS a
LEFT JOIN tocsin.login_attempts AS w
  ON w.source_ip = a.source_ip
  AND w.window_start BETWEEN TIMESTAMP_SUB(a.event_time, INTERVAL 30 MINUTE) AND TIMESTAMP_ADD(a.event_time, INTERVAL 30 MINUTE)
WHERE a.event_time >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 1 DAY)
GROUP BY a.event_time, a.username, a.source_ip, a.risk_score
ORDER BY a.event_time DESC;

-- Which streams send what nobody can read.
SELECT stream, reason, COUNT(*) AS lines_, ANY_VALUE(raw) AS example
FROM tocsin.unreadable
GROUP BY stream, reason
ORDER BY lines_ DESC;
