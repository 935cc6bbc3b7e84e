-- The sliding window of src/policy/rate_limit/window.rs, by the server's own clock, in milliseconds.
--
-- KEYS[1]  the counters: "window previous current"
-- ARGV     length of a window, unused, unused, capacity, tokens handed back, the window they were taken in,
--          tokens wished for a lease, 1 when calls only ask and take nothing, then what
--          each call costs
-- Answers  tokens leased, tokens left, microseconds until full, the window, then for each call: 0 granted, -1 never,
--          else the microseconds after which it would be granted
--
-- After a fail-over the clock may have gone back: then all that is known counts as used in the present window.
local length, capacity = tonumber(ARGV[1]), tonumber(ARGV[4])
local back, back_window, wish = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local looks = ARGV[8] == '1'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local window = math.floor(now / length)
local elapsed = now - window * length

local previous, current, changed = 0, 0, false
local state = redis.call('GET', KEYS[1])
if state then
  local at, before, since = string.match(state, '^(%d+) (%d+) (%d+)$')
  at, before, since = tonumber(at), tonumber(before), tonumber(since)
  if at > window then
    -- Kept, or it would stay so until the clock is where it was.
    current, changed = math.min(capacity, before + since), true
  elseif at == window then
    previous, current = before, since
  elseif at == window - 1 then
    previous = since
  end
end
if back > 0 then
  if back_window == window then
    current = math.max(0, current - back)
  elseif back_window == window - 1 then
    previous = math.max(0, previous - back)
  end
  changed = true
end

local function clears_at(count, room)
  if count <= room then return 0 end
  return length - math.floor(room * length / count)
end
local full = capacity * length
local function used()
  return previous * (length - elapsed) + current * length
end
local answer = { 0, 0, 0, window }
for i = 9, #ARGV do
  local cost = tonumber(ARGV[i])
  if cost > capacity then
    answer[#answer + 1] = -1
  elseif used() + cost * length <= full then
    if not looks then current, changed = current + cost, true end
    answer[#answer + 1] = 0
  else
    local room = capacity - cost
    local at
    if room >= current then at = clears_at(previous, room - current) else at = length + clears_at(current, room) end
    answer[#answer + 1] = math.max(1, at - elapsed) * 1000
  end
end

local left = math.max(0, math.floor((full - used()) / length))
local lease = math.min(wish, math.floor(left / 20))
if lease > 0 then
  current, left, changed = current + lease, left - lease, true
end
if changed then
  if previous + current > 0 then
    local text = string.format('%.0f %.0f %.0f', window, previous, current)
    redis.call('SET', KEYS[1], text, 'PX', string.format('%.0f', 2 * length - elapsed))
  else
    redis.call('DEL', KEYS[1])
  end
end
local full_in = 0
if current > 0 then full_in = 2 * length - elapsed elseif previous > 0 then full_in = length - elapsed end
answer[1], answer[2], answer[3] = lease, left, full_in * 1000
return answer
