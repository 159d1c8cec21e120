-- The concurrency limit of an account: halved when the portal complains, raised one by one.

-- The number that was refused is tried again after so many transfers that succeeded, or after
-- fewer when so many seconds went by without a complaint.
local SUCCESSES, QUIET_SECONDS = 100, 600

-- Return the limit of an account: that of the settings, or less since the portal complained.
local function concurrency(a, most)
  local limit = number(a.places, most)
  return limit >= 1 and math.min(limit, most) or most
end

local function set_concurrency(a, before, limit, why)
  set(a, { places = limit, well = 0, changed = now_text })
  local change = { at = now_text, before = before, places = limit, why = why }
  call('LPUSH', a.key .. ':changes', cjson.encode(change))
  call('LTRIM', a.key .. ':changes', 0, 49)
end

-- Halve the limit after an answer 429, once for all requests that were under way together.
local function halve_concurrency(a, most, started)
  if a.limit_by_hand or started <= number(a.lowered) then return end
  local before = concurrency(a, most)
  -- The attempt that complains has given its lease back already.
  local running = math.min(before, call('ZCARD', a.key .. ':leases') + 1)
  local limit = math.max(1, math.floor(running / 2))
  set(a, { lowered = now_text, ceiling = running })
  if limit == before then return end
  set_concurrency(a, before, limit, 'too many requests (429) with ' .. running .. ' under way')
end

-- Count a transfer that succeeded: after enough of them the limit rises by one.
local function transfer_succeeded(a, most)
  local limit = number(a.places, most)
  -- Below the limit nothing was tried.
  if a.limit_by_hand or limit >= most or call('ZCARD', a.key .. ':leases') + 1 < limit then return end
  local successes = number(a.well) + 1
  set(a, { well = successes })
  local untried = limit + 1 >= number(a.ceiling, most + 1)
  local early = untried and successes < SUCCESSES and now - number(a.changed) < QUIET_SECONDS
  if successes < limit or early then return end
  set_concurrency(a, limit, limit + 1, successes .. ' downloads in a row went well')
  if limit + 1 >= most then clear(a, 'places', 'ceiling') end
end
