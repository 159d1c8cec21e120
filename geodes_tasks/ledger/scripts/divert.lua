-- What the datalake can give does not wait for the portal: while an account is paused, such
-- downloads are served beside it, as those of the account <name>:s3; they cost no quota.
-- When the datalake is out too, or a person holds the account, they go back. ARGV: account
-- Returns how many were moved.
local account, time = ARGV[1], now()
local lane, key = account .. ':s3', account_key(account)
local paused = is_paused(account, time)
local by_hand = paused and redis.call('HGET', key, 'paused') == 'by hand'
local untried, offered = unpack(redis.call('HMGET', P .. 'source:s3', 'until', 'offered'))
local works = offered and time - number(offered) < 120 and number(untried) <= time
  and redis.call('HEXISTS', P .. 'holds', 'source:s3') == 0

-- Move those that `takes` says from one ready list of each batch to another, in their order.
local function sift(from, to, most, takes)
  local moved = 0
  for _, name in ipairs(redis.call('ZRANGE', P .. 'batches', 0, -1)) do
    local ids = redis.call('LRANGE', ready_key(name, from), 0, most)
    local stay, before = {}, moved
    for _, id in ipairs(ids) do
      if takes(id) then
        redis.call('HSET', download(id), 'account', to)
        redis.call('RPUSH', ready_key(name, to), id)
        moved = moved + 1
      else
        stay[#stay + 1] = id
      end
    end
    if moved > before then
      redis.call('LTRIM', ready_key(name, from), #ids, -1)
      for i = #stay, 1, -1 do redis.call('LPUSH', ready_key(name, from), stay[i]) end
      redis.call('SADD', P .. 'accounts', to)
      enter_ring(name, to)
      if #stay > 0 then enter_ring(name, from) end
    end
  end
  return moved
end

local function on_portal(id) return string.find(field(id, 'spec'), '"geodes":"', 1, true) end

local function on_datalake(id)
  local spec, refused = unpack(redis.call('HMGET', download(id), 'spec', 's3'))
  return spec and refused ~= '0' and string.find(spec, '"s3":"', 1, true)
end

if paused and works and not by_hand then
  -- The whole queue once a pause; after that only what came to its head since.
  local mark = redis.call('HGET', key, 'paused_until')
  local most = redis.call('HGET', key, 'sifted') == mark and 199 or -1
  redis.call('HSET', key, 'sifted', mark)
  return sift(account, lane, most, on_datalake)
end
if (by_hand or not works) and redis.call('SISMEMBER', P .. 'accounts', lane) == 1 then
  return sift(lane, account, -1, by_hand and function() return true end or on_portal)
end
return 0
