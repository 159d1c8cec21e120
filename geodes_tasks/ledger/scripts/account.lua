-- What an account may do now: its pause, its quota, its places. Of the hash account:<name>:
--
--   paused, paused_until     why it takes no work; a time, or `resume`: until somebody says so
--   places, ceiling          how many may run, where fewer than the settings say; where it stopped
--   changed, lowered, well   when places changed, when they were taken; what went well since
--   resets, resets_since     connections that broke lately
--   probe                    the portal has refused for the quota: `due`, or the download that tries
--   probe_wait, probed       seconds between two tries; when the last one began
--   portal_left, portal_at   requests left as the portal says (-1: it does not say, -2: no quota);
--                            when it was asked. Shown only: it stops nothing
--   quota_asked              when a worker last began to ask for that
--   accepted                 when the last download began to which the portal gave a file
--   window, refilled         messages on their way at most, as drained so far

-- So many broken connections within so many seconds are a complaint.
local RESETS, RESETS_SECONDS = 3, 30
-- The number that was refused is tried again after so many downloads that went well, or after
-- fewer when so many seconds went by without a complaint.
local WELL, WELL_SECONDS = 100, 600

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

-- The portal refused a request for its quota: the account waits, then one download at a time tries.
local function refused(account, wait, probe_wait, time)
  redis.call('HSET', account_key(account), 'probe', 'due', 'probe_wait', probe_wait)
  pause_account(account, 'quota', wait, time)
end

-- How many downloads may start while it is not known whether there is quota again.
local function probes_left(account)
  local probe = redis.call('HGET', account_key(account), 'probe')
  if not probe then return 1e9 end
  return (probe == 'due' or field(probe, 'state') ~= 'STARTED') and 1 or 0
end

-- End a pause for the quota before its time.
local function end_quota_pause(account)
  local key = account_key(account)
  if redis.call('HGET', key, 'paused') == 'quota' then
    redis.call('HDEL', key, 'paused', 'paused_until')
  end
end

-- The download that tried gets its file: everything goes on.
local function quota_is_back(account)
  redis.call('HDEL', account_key(account), 'probe', 'probed')
  end_quota_pause(account)
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

-- Note that an attempt begins; gives what it must know of its account.
local function account_notes(id, account, time)
  local key = account_key(account)
  if redis.call('HEXISTS', key, 'probe') == 0 then return '' end
  redis.call('HSET', key, 'probe', id, 'probed', stamp(time))
  return ' probe'
end

-- What the portal's answer to one download says of its account.
local function heed_complaint(account, said, most, began, time)
  local complaint = said.complaint
  if complaint == 'throttled' then lower(account, most, began, time, 'too many requests (429)') end
  if complaint == 'broken' then strained(account, most, began, time) end
  if complaint == 'refused' then
    refused(account, said.pause_seconds, said.probe_seconds, time)
  end
end
