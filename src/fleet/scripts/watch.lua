-- KEYS: generation, history, counter and log of each bucket. ARGV: a new generation.
-- The state of the log: how many records there are, and the ID of the last one. A server with another history
-- may have lost records and fences: a new generation begins there.
local info = redis.call('INFO', 'replication')
if string.match(info, 'role:(%a+)') ~= 'master' then
    return redis.error_reply('READONLY this is not the master')
end
local history = string.match(info, 'master_replid:(%x+)') or ''
local state = {}
for bucket = 1, #KEYS, 4 do
    local generation = redis.call('GET', KEYS[bucket])
    if not generation or redis.call('GET', KEYS[bucket + 1]) ~= history then
        generation = ARGV[1]
        redis.call('SET', KEYS[bucket], generation)
        redis.call('SET', KEYS[bucket + 1], history)
    end
    local last = redis.call('XREVRANGE', KEYS[bucket + 3], '+', '-', 'COUNT', 1)
    state[#state + 1] = {
        generation,
        tonumber(redis.call('GET', KEYS[bucket + 2]) or '0'),
        last[1] and last[1][1] or '0-0',
    }
end
return state
