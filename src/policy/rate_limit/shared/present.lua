-- Says that an instance is there, and asks how many are.
--
-- KEYS[1]  the instances by when they last said so (Unix milliseconds)
-- ARGV     the instance; after how many milliseconds of silence one is gone
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - ARGV[2]))
-- After a fail-over the clock may have gone back: who is there says so again, and who is gone must not stay until then.
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + ARGV[2]), '+inf')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
