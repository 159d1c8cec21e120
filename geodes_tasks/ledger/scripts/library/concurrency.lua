-- The concurrency limit of an account: halved when the portal complains, raised one by one.

-- The number that was refused is tried again after so many transfers that succeeded, or after
-- fewer when so many seconds went by without a complaint.
local SUCCESSES, QUIET_SECONDS = 100, 600

-- Return the limit of an account: that of the settings, or less since the portal complained.
local function concurrency(places, most)
  local limit = number(places, most)
  return limit >= 1 and math.min(limit, most) or most
end

local function set_concurrency(account, before, limit, why)
  local key = account_key(account)
  call('HSET', key, 'places', limit, 'well', 0, 'changed', stamp(now))
  local change = { at = stamp(now), before = before, places = limit, why = why }
  call('LPUSH', key .. ':changes', cjson.encode(change))
  call('LTRIM', key .. ':changes', 0, 49)
end

-- Halve the limit after an answer 429, once for all requests that were under way together.
local function halve_concurrency(account, most, started)
  local key = account_key(account)
  local places, lowered, by_hand = unpack(call('HMGET', key, 'places', 'lowered', 'limit_by_hand'))
  if by_hand or started <= number(lowered) then return end
  local before = concurrency(places, most)
  -- The attempt that complains has given its lease back already.
  local running = math.min(before, call('ZCARD', key .. ':leases') + 1)
  local limit = math.max(1, math.floor(running / 2))
  call('HSET', key, 'lowered', stamp(now), 'ceiling', running)
  if limit == before then return end
  set_concurrency(account, before, limit, 'too many requests (429) with ' .. running .. ' under way')
end

-- Count a transfer that succeeded: after enough of them the limit rises by one.
local function transfer_succeeded(account, most)
  local key = account_key(account)
  local text, changed, ceiling, by_hand =
    unpack(call('HMGET', key, 'places', 'changed', 'ceiling', 'limit_by_hand'))
  local limit = number(text, most)
  -- Below the limit nothing was tried.
  if by_hand or limit >= most or call('ZCARD', key .. ':leases') + 1 < limit then return end
  local successes = call('HINCRBY', key, 'well', 1)
  local untried = limit + 1 >= number(ceiling, most + 1)
  local early = untried and successes < SUCCESSES and now - number(changed) < QUIET_SECONDS
  if successes < limit or early then return end
  set_concurrency(account, limit, limit + 1, successes .. ' downloads in a row went well')
  if limit + 1 >= most then call('HDEL', key, 'places', 'ceiling') end
end
