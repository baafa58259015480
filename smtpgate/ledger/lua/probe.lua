-- Writes what counts nothing, and answers with the server's time in microseconds.
--
-- KEYS: what is written. ARGV: for how many milliseconds it is kept.

redis.call("SET", KEYS[1], "1", "PX", ARGV[1])
return {now_us()}
