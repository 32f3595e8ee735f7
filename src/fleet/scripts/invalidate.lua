-- KEYS: counter, log, fence, facts. ARGV: records to keep of the log, origin, digest of the token,
-- life of the fence (ms).
-- Invalidates a token: with a record in the log, and a fence against facts from before.
local number = redis.call('INCR', KEYS[1])
local id = redis.call(
    'XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', 'n', number, 'o', ARGV[2], 't', ARGV[3]
)
redis.call('SET', KEYS[3], id, 'PX', ARGV[4])
redis.call('DEL', KEYS[4])
return number
