-- KEYS: session. ARGV: the version that was loaded, or nothing for a new session; the version, the tokens, the
-- number of their last claim, and their life (ms).
-- Stores the tokens of a session, unless it has others by now.
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then
    return 0
end
if redis.call('HGET', KEYS[1], 'claims') ~= ARGV[4] then
    local time = redis.call('TIME')
    local claimed = time[1] * 1000 + math.floor(time[2] / 1000)
    redis.call('HSET', KEYS[1], 'claims', ARGV[4], 'claimed', string.format('%.0f', claimed))
end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'tokens', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
