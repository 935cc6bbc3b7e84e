-- A mark: the bucket of one token of bucket.lua, as it is while that token is out.
--
-- KEYS[1]  the mark: "micros part", the time at which it ends
-- ARGV     microseconds for which it is set unless it stands (0: it is only looked at), the most that it ever stands
-- Answers  1 when this call has set it, microseconds for which it stands still
--
-- After a fail-over the clock may have gone back: it stands no longer than it was ever set for.
local wish, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local state = redis.call('GET', KEYS[1])
local left, clamped = 0, false
if state then
  local at, part = string.match(state, '^(%d+) (%d+)$')
  left = math.max(0, tonumber(at) + (tonumber(part) > 0 and 1 or 0) - now)
  clamped = left > most
  left = math.min(most, left)
end
if left > 0 or wish == 0 then
  -- Written back, so that it ends when it has stood for so long, and not when the clock has caught up.
  if clamped then
    redis.call('SET', KEYS[1], string.format('%.0f 0', now + left), 'PX', string.format('%.0f', math.floor(left / 1000) + 1))
  end
  return { 0, left }
end
redis.call('SET', KEYS[1], string.format('%.0f 0', now + wish), 'PX', string.format('%.0f', math.floor(wish / 1000) + 1))
return { 1, wish }
