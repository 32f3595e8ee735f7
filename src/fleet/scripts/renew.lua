-- KEYS: generation. ARGV: the generation that was lost, a new one.
-- Begins a new generation, unless another process has done so.
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2])
end
return 1
