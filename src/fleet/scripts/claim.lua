-- KEYS: claim. ARGV: who claims, and for how long (ms).
-- Whether this process has the claim, which nobody else had.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
    return 1
end
return 0
