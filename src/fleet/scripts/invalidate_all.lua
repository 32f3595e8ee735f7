-- KEYS: counter, log, generation. ARGV: records to keep of the log, origin, a new generation.
-- Invalidates all tokens of a bucket: facts of another generation are not used.
local number = redis.call('INCR', KEYS[1])
redis.call(
    'XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', 'n', number, 'o', ARGV[2], 'g', ARGV[3]
)
redis.call('SET', KEYS[3], ARGV[3])
return number
