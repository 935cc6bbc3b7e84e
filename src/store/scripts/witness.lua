-- A write that changes nothing, for WAIT to find out whether replicas follow.
--
-- KEYS: what is touched.
-- ARGV: how long it lives (ms).
--
-- A server that is full moves an end all the same, where it would make no new key.
if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 0 then redis.call('SET', KEYS[1], '', 'PX', ARGV[1]) end
return 1
