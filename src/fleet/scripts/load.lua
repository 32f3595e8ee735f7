-- KEYS: generation, fence, facts. ARGV: a new generation.
-- What is shared of a token, and what has to be the same when facts of it are shared.
-- Changes nothing, but is a write: a server that is not the master any more refuses it.
redis.call('PERSIST', KEYS[1])
local generation = redis.call('GET', KEYS[1])
if not generation then
    generation = ARGV[1]
    redis.call('SET', KEYS[1], generation)
end
local time = redis.call('TIME')
return {
    generation,
    redis.call('GET', KEYS[2]) or '',
    redis.call('GET', KEYS[3]) or '',
    time[1] * 1000 + math.floor(time[2] / 1000),
}
