-- KEYS: sight. ARGV: for how long this process knows the token (ms), and for how long that is kept (ms).
-- For how long (ms) any process knows it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local since = now - tonumber(ARGV[1])
local known = tonumber(redis.call('GET', KEYS[1]) or since)
if known < since then
    since = known
end
redis.call('SET', KEYS[1], string.format('%.0f', since), 'PX', ARGV[2])
return math.max(now - since, 0)
