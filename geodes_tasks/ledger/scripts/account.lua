-- What an account may do now: its pause, its quota, its places. Of the hash account:<name>:
--
--   paused, paused_until     why it takes no work; a time, or `resume`: until somebody says so
--   places, ceiling          how many may run, where fewer than the settings say; where it stopped
--   changed, lowered, well   when places changed, when they were taken; what went well since
--   resets, resets_since     connections that broke lately
--   probe                    the portal says that the quota is used up: `due`, or who tries now
--   probe_wait, probed       seconds between two tries; when the last one began
--   told, told_at            requests left as the portal says, or `none` when it does not, or
--                            `unlimited`; when it was asked, and told_period: how often it is
--   granted, learned         requests since there was quota; how many there were before a refusal
--   guessed                  the last stop came from that number, not from a refusal
--   window, refilled         messages on their way at most, as drained so far

-- So many broken connections within so many seconds are a complaint.
local RESETS, RESETS_SECONDS = 3, 30
-- The number that was refused is tried again after so many downloads that went well, or after
-- fewer when so many seconds went by without a complaint.
local WELL, WELL_SECONDS = 100, 600
-- While nobody knows the quota, so many requests may be without an answer at once: no more are
-- wasted to learn it. After so many that were granted there is no small quota to learn, and small
-- files need not wait for each other any more.
local WASTED, TRUSTED = 3, 128

local function is_paused(account, time)
  local until_time = redis.call('HGET', account_key(account), 'paused_until')
  if not until_time then return false end
  if until_time ~= 'resume' and number(until_time) <= time then
    redis.call('HDEL', account_key(account), 'paused_until', 'paused')
    return false
  end
  return true
end

-- Have an account take no work. What waits for a person is not cut short by what passes by itself.
local function pause_account(account, why, seconds, time)
  local key = account_key(account)
  local before = redis.call('HGET', key, 'paused_until')
  if before == 'resume' and seconds then return end
  local till = seconds and time + seconds
  if before and before ~= 'resume' and till and number(before) > till then return end
  redis.call('HSET', key, 'paused', why, 'paused_until', till and stamp(till) or 'resume')
end

-- How many requests the account may still start in its window, and when the window moves on.
local function quota_left(account, quota_count, quota_seconds, time)
  if quota_count == 0 then return 1e9, 0 end
  local spent = account_key(account, ':spent')
  redis.call('ZREMRANGEBYSCORE', spent, '-inf', stamp(time - quota_seconds))
  local left = quota_count - redis.call('ZCARD', spent)
  if left > 0 then return left, 0 end
  local oldest = redis.call('ZRANGE', spent, 0, 0, 'WITHSCORES')
  return 0, tonumber(oldest[2]) + quota_seconds
end

-- The places an account has now: those of the settings, or fewer since the portal complained.
local function places_of(account, most)
  local places = number(redis.call('HGET', account_key(account), 'places'), most)
  return places >= 1 and math.min(places, most) or most
end

local function change_places(account, before, places, time, why)
  local key = account_key(account)
  redis.call('HSET', key, 'places', places, 'well', 0, 'changed', stamp(time))
  local change = { at = stamp(time), before = before, places = places, why = why }
  redis.call('LPUSH', key .. ':changes', cjson.encode(change))
  redis.call('LTRIM', key .. ':changes', 0, 49)
end

-- Take half of the places away, once for all requests that were under way together.
local function lower(account, most, started, time, why)
  local key = account_key(account)
  if started <= number(redis.call('HGET', key, 'lowered')) then return end
  local before = places_of(account, most)
  -- The attempt that complains has given its lease back already.
  local running = math.min(before, redis.call('ZCARD', key .. ':leases') + 1)
  redis.call('HSET', key, 'lowered', stamp(time), 'ceiling', running)
  local places = math.max(1, math.floor(running / 2))
  if places == before then return end
  change_places(account, before, places, time, why .. ' with ' .. running .. ' under way')
end

-- A connection broke: one is chance, several are a portal that has too much to do.
local function strained(account, most, started, time)
  local key = account_key(account)
  if number(redis.call('HGET', key, 'resets_since')) < time - RESETS_SECONDS then
    redis.call('HSET', key, 'resets', 0, 'resets_since', stamp(time))
  end
  local resets = redis.call('HINCRBY', key, 'resets', 1)
  if resets < RESETS then return end
  redis.call('HDEL', key, 'resets', 'resets_since')
  lower(account, most, started, time, resets .. ' connections broke')
end

-- A download went well: after enough of them the account gets one place more.
local function went_well(account, most, time)
  local key = account_key(account)
  local places = number(redis.call('HGET', key, 'places'), most)
  if places >= most then return end
  -- With places to spare nothing was tried.
  if redis.call('ZCARD', key .. ':leases') + 1 < places then return end
  local well = redis.call('HINCRBY', key, 'well', 1)
  local quiet = time - number(redis.call('HGET', key, 'changed'))
  local known = places + 1 < number(redis.call('HGET', key, 'ceiling'), most + 1)
  if well < places or (not known and well < WELL and quiet < WELL_SECONDS) then return end
  change_places(account, places, places + 1, time, well .. ' downloads in a row went well')
  if places + 1 >= most then redis.call('HDEL', key, 'places', 'ceiling') end
end

-- No more quota: from now on one download at a time tries.
local function out_of_quota(account, wait, time)
  redis.call('HSET', account_key(account), 'probe', 'due', 'probe_wait', wait)
  pause_account(account, 'quota', wait, time)
end

-- The portal has refused a request for its quota, which tells how many it takes.
local function refused(account, wait, time)
  local key = account_key(account)
  local granted = math.max(redis.call('HINCRBY', key, 'granted', -1), 1)
  redis.call('HSET', key, 'granted', granted, 'learned', granted)
  redis.call('HDEL', key, 'guessed')
  out_of_quota(account, wait, time)
end

-- Requests left as the portal says, and when it is asked again; nil when it has not said so lately.
local function told_left(account, time)
  local told, at, period = unpack(redis.call('HMGET', account_key(account),
    'told', 'told_at', 'told_period'))
  if told == 'unlimited' then return 1e9, time end
  if not tonumber(told) or time - number(at) > 3 * number(period) then return nil end
  return tonumber(told), number(at) + number(period)
end

-- How many downloads have asked for their file and have no byte of it yet.
local function unanswered(account)
  local count = 0
  for _, id in ipairs(redis.call('ZRANGE', account_key(account, ':leases'), 0, -1)) do
    local token, asking, done = unpack(redis.call('HMGET', download(id), 'token', 'asking', 'done'))
    if asking == token and number(done) == 0 then count = count + 1 end
  end
  return count
end

-- How many downloads may start while it is not known whether there is quota again.
local function probes_left(account)
  local probe = redis.call('HGET', account_key(account), 'probe')
  if not probe then return 1e9 end
  return (probe == 'due' or field(probe, 'state') ~= 'STARTED') and 1 or 0
end

-- There is quota: everything goes on.
local function quota_is_back(account)
  local key = account_key(account)
  local learned, guessed = unpack(redis.call('HMGET', key, 'learned', 'guessed'))
  -- Stopped by a guess, and the first try went through: the guess may have been too low.
  if learned and guessed then redis.call('HSET', key, 'learned', math.ceil(number(learned) * 1.5)) end
  redis.call('HDEL', key, 'probe', 'probed', 'guessed')
  redis.call('HSET', key, 'granted', 1)
  if redis.call('HGET', key, 'paused') == 'quota' then
    redis.call('HDEL', key, 'paused', 'paused_until')
  end
end

-- The download that tried has ended. An answer that tells nothing makes the next try wait;
-- `source` is where its file came from, `nowhere` when nothing had to be asked, false for no file.
local function probe_ended(id, account, time, source)
  local key = account_key(account)
  if redis.call('HGET', key, 'probe') ~= id then return end
  if source == 'geodes' then return quota_is_back(account) end
  redis.call('HSET', key, 'probe', 'due')
  if source == 'nowhere' then return end
  local wait = number(redis.call('HGET', key, 'probed')) - time
    + number(redis.call('HGET', key, 'probe_wait'))
  if wait > 0 then pause_account(account, 'quota', wait, time) end
end

-- Whether each request has to be asked for: not where nobody knows of a quota, and so many were
-- granted that there is no small one. The records of the downloads count the requests then.
local function is_metered(account, quota_count)
  local told, learned, granted = unpack(redis.call('HMGET', account_key(account),
    'told', 'learned', 'granted'))
  if quota_count > 0 or tonumber(told) then return true end
  return told ~= 'unlimited' and (learned or number(granted) < TRUSTED)
end

-- What an attempt that begins must know of its account.
local function account_notes(id, account, quota_count, time)
  local key = account_key(account)
  local probe = redis.call('HGET', key, 'probe')
  if probe then redis.call('HSET', key, 'probe', id, 'probed', stamp(time)) end
  return (probe and ' probe' or '')
    .. ((probe or is_metered(account, quota_count)) and ' metered' or '')
end

-- What the portal's answer to one download says of its account.
local function heed_complaint(account, complaint, most, began, wait, time)
  if complaint == 'throttled' then lower(account, most, began, time, 'too many requests (429)') end
  if complaint == 'broken' then strained(account, most, began, time) end
  if complaint == 'refused' then refused(account, wait, time) end
end
