-- KEYS: generation, fence, facts. ARGV: generation, fence and time (ms) of the load; for how long after it
-- facts are shared (ms); the facts, and their life (ms).
-- Shares facts, unless the token was invalidated since the load.
local time = redis.call('TIME')
local age = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[3])
if redis.call('GET', KEYS[1]) ~= ARGV[1]
    or (redis.call('GET', KEYS[2]) or '') ~= ARGV[2]
    or age < 0
    or age > tonumber(ARGV[4])
then
    return 0
end
redis.call('SET', KEYS[3], ARGV[5], 'PX', ARGV[6])
return 1
