-- KEYS: session.
-- Removes a session, and tells its tokens and their version.
local session = redis.call('HMGET', KEYS[1], 'version', 'tokens')
redis.call('DEL', KEYS[1])
return { session[1] or '', session[2] or '' }
