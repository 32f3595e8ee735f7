-- KEYS: session.
-- The tokens of a session, their version, and how long ago (ms) they were claimed.
local session = redis.call('HMGET', KEYS[1], 'version', 'tokens', 'claimed')
local time = redis.call('TIME')
local claimed = tonumber(session[3] or '0')
return {
    session[1] or '',
    session[2] or '',
    time[1] * 1000 + math.floor(time[2] / 1000) - claimed,
}
