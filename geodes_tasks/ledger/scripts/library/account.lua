-- What an account may do now: its pause and its quota. Fields of the hash account:<name>:
--
--   paused, paused_until     why it takes no work; a time, or `resume`: until a person resumes it
--   places, ceiling          the concurrency limit, where lower than in the settings; where it stopped
--   limit_by_hand            a user set that limit: nothing but the command `limit` changes it
--   changed, lowered, well   when it changed, when it was lowered; transfers that succeeded since
--   probe                    the portal has refused for the quota: `due`, or the download that tries
--   probe_sent               the download that last got a message to try
--   probe_wait, probed       seconds between two tries; when the last one began
--   portal_left, portal_at   requests left as the portal says (-1: it does not say, -2: no quota);
--                            when it was asked. Shown only: it stops nothing
--   quota_asked              when a worker last began to ask for that
--   accepted                 when the last download began to which the portal gave a file
--   window, refilled         messages in the broker at most, as drained so far; the last refill

local function load_account(name) return load_hash(account_key(name)) end

local function is_paused(a) return a.paused_until == 'resume' or number(a.paused_until) > now end

-- Pause an account. What waits for a person is not cut short by what passes by itself.
local function pause_account(a, why, seconds)
  if seconds and (a.paused_until == 'resume' or number(a.paused_until) > now + seconds) then return end
  set(a, { paused = why, paused_until = seconds and stamp(now + seconds) or 'resume' })
end

-- Return how many requests the account may still start in its window, and when the window moves on.
local function quota_left(account, quota_count, quota_seconds)
  if quota_count == 0 then return 1e9, 0 end
  local spent = account_key(account, ':spent')
  call('ZREMRANGEBYSCORE', spent, '-inf', stamp(now - quota_seconds))
  local left = quota_count - call('ZCARD', spent)
  if left > 0 then return left, 0 end
  return 0, tonumber(call('ZRANGE', spent, 0, 0, 'WITHSCORES')[2]) + quota_seconds
end

-- Return how many downloads may start while it is not known whether there is quota again.
local function probes_left(probe)
  if not probe then return 1e9 end
  return (probe == 'due' or call('HGET', download_key(probe), 'state') ~= 'STARTED') and 1 or 0
end

-- End the try of a download. When it got its file from the portal, the account goes on. An answer
-- without meaning for the quota makes the next try wait. `source` served its file, `nowhere` when nothing
-- had to be fetched, nil for no file.
local function end_probe(a, d, source)
  if a.probe ~= d.id then return end
  if source == 'geodes' then
    clear(a, 'probe', 'probed')
    if a.paused == 'quota' then clear(a, 'paused', 'paused_until') end
    return
  end
  set(a, { probe = 'due' })
  local left = number(a.probed) - now + number(a.probe_wait)
  if source ~= 'nowhere' and left > 0 then pause_account(a, 'quota', left) end
end
