-- KEYS: generation, counter and log of each bucket. ARGV: a new generation.
-- The state of the log: how many records there are, the ID of the last one, and whether it is still the same
-- log.
local info = redis.call('INFO', 'replication')
if string.match(info, 'role:(%a+)') ~= 'master' then
    return redis.error_reply('READONLY this is not the master')
end
local state = { string.match(info, 'master_replid:(%x+)') or '' }
for bucket = 1, #KEYS, 3 do
    local generation = redis.call('GET', KEYS[bucket])
    if not generation then
        generation = ARGV[1]
        redis.call('SET', KEYS[bucket], generation)
    end
    local last = redis.call('XREVRANGE', KEYS[bucket + 2], '+', '-', 'COUNT', 1)
    state[#state + 1] = {
        generation,
        tonumber(redis.call('GET', KEYS[bucket + 1]) or '0'),
        last[1] and last[1][1] or '0-0',
    }
end
return state
