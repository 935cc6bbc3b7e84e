-- The token bucket of src/policy/rate_limit/bucket.rs, by the server's own clock.
--
-- KEYS[1]  the bucket: "micros part", the time at which it is full again, in microseconds and `rate`ths of one
-- ARGV     time of a token (whole microseconds, part), rate, capacity, tokens handed back, microseconds beyond a second
--          that they were out, tokens wished for a lease, 1 when calls only ask and take nothing, then what
--          each call costs
-- Answers  tokens leased, tokens left, microseconds until full, 0, then for each call: 0 granted, -1 never, else the
--          microseconds after which it would be granted
--
-- A time is two numbers, so that no product comes near 2^53 and nothing is ever rounded. A key that is not there is a
-- full bucket. After a fail-over the clock may have gone back: then the bucket counts as empty at most, never as fuller.
local whole, part, rate, capacity = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local back, late, wish = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local looks = ARGV[8] == '1'
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function time_of(tokens)
  local parts = tokens * part
  local carry = math.floor(parts / rate)
  return tokens * whole + carry, parts - carry * rate
end
local function add(w, p, w2, p2)
  w, p = w + w2, p + p2
  if p >= rate then w, p = w + 1, p - rate end
  return w, p
end
local function sub(w, p, w2, p2)
  w, p = w - w2, p - p2
  if p < 0 then w, p = w - 1, p + rate end
  return w, p
end
local function over(w, p, w2, p2)
  return w > w2 or (w == w2 and p > p2)
end

local most, most_part = time_of(capacity)
local missing, missing_part, changed = 0, 0, false
local state = redis.call('GET', KEYS[1])
if state then
  local at, at_part = string.match(state, '^(%d+) (%d+)$')
  missing, missing_part = tonumber(at) - now, tonumber(at_part)
  if missing < 0 then missing, missing_part = 0, 0 end
  if over(missing, missing_part, most, most_part) then
    -- Kept, or it would stay empty until the clock is where it was.
    missing, missing_part, changed = most, most_part, true
  end
end
local function take(tokens)
  missing, missing_part = add(missing, missing_part, time_of(tokens))
  changed = true
end
if back > 0 then
  -- Less what may have been refilled in their place meanwhile, a second of which is allowed for.
  local credit, credit_part = time_of(back)
  if credit >= late then missing, missing_part = sub(missing, missing_part, credit - late, credit_part) end
  if missing < 0 then missing, missing_part = 0, 0 end
  changed = true
end

local answer = { 0, 0, 0, 0 }
for i = 9, #ARGV do
  local cost = tonumber(ARGV[i])
  if cost > capacity then
    answer[#answer + 1] = -1
  else
    local after, after_part = add(missing, missing_part, time_of(cost))
    if over(after, after_part, most, most_part) then
      after, after_part = sub(after, after_part, most, most_part)
      answer[#answer + 1] = after + (after_part > 0 and 1 or 0)
    else
      if not looks then take(cost) end
      answer[#answer + 1] = 0
    end
  end
end

local room, room_part = sub(most, most_part, missing, missing_part)
local left = math.floor((room + room_part / rate) / (whole + part / rate))
-- The division is rounded; the comparison is not.
while left > 0 and over(select(1, time_of(left)), select(2, time_of(left)), room, room_part) do left = left - 1 end
while left < capacity do
  local w, p = time_of(left + 1)
  if over(w, p, room, room_part) then break end
  left = left + 1
end
local lease = math.min(wish, math.floor(left / 20))
if lease > 0 then
  take(lease)
  left = left - lease
end
local full_in = missing + (missing_part > 0 and 1 or 0)
if changed then
  if full_in > 0 then
    local at = string.format('%.0f %.0f', now + missing, missing_part)
    redis.call('SET', KEYS[1], at, 'PX', string.format('%.0f', math.floor(full_in / 1000) + 1))
  else
    redis.call('DEL', KEYS[1])
  end
end
answer[1], answer[2], answer[3] = lease, left, full_in
return answer
