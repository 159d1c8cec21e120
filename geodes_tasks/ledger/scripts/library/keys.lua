-- The key layout, and the one function that sends a command.
-- KEYS[1] is the prefix of all keys. Keys are computed, so Redis Cluster is not supported.
--
--   download:<id>            hash    one record: state, spec (JSON), path, batches, account, ...;
--                            present:<batch>: when that batch found the file there
--   batch:<name>             hash    counters: total, state:<S>, outcome:<O> in place of SUCCESS, waiting:<R>
--                            in place of RETRY, bytes_* (bytes_ended: of failed
--                            and cancelled ones, not fetched); owner, speed
--   batch:<name>:downloads   zset    its downloads in the order in which they were enqueued
--   batch:<name>:ready:<sources>:<account>  list  its downloads that can start, by the set of
--                            sources that can serve them: geodes, geodes+s3, s3 and, for a host
--                            other than the portal, <host> and <host>+s3 (geodes->host: the portal
--                            redirects them there, and that host was down); the head is next
--   errors:<batch>           zset    its downloads with an error: <state>:<class of the error>:<id>
--   batches                  zset    every batch by time
--   open                     set     batches whose end is not recorded yet
--   over                     hash    batches that are over, with their counters, for hooks to take
--   hooks                    string  when a worker with a hook for batches was seen first
--   account:<name>           hash    paused, paused_until: the account asks nothing of the portal,
--                            by_hand: nor of any other source; see account.lua
--   account:<name>:ring      zset    batches with ready work by their next turn, see ready_lists.lua
--   account:<name>:leases    zset    running downloads by the time their lease ends
--   account:<name>:sent      zset    downloads whose message is on its way, by the time it was sent
--   account:<name>:spent     zset    requests that count against the quota, by time
--   account:<name>:tape      zset    downloads whose file is on tape, by the time since when
--   account:<name>:poll      hash    the worker that polls for them, and the time of the next poll
--   account:<name>:changes   list    why the concurrency limit changed, the newest first
--   holds                    hash    paused sources and batches
--   sources                  hash    of each source, `geodes`, `s3` or another host: until:<name>, why:,
--                            wait:, avoid: it is out of reach; worked:<name>: when it last gave a file;
--                            offered:<name>: a worker can use it. `hosts`: the other hosts, a line each
--   accounts                 set     every account
--   due                      zset    waiting downloads by the time they go on
--   since:<reason>           zset    the same and those not taken yet, by the time since when
--   forgotten                set     batches whose records are still to be removed
--   forgotten:<name>         zset    these records, of a batch and the time when it was forgotten
--   run                      string  on a private server: on, or off between two runs
--   earlier                  set     batches of earlier runs on a private server, see ledger/control
--   left_over                hash    those with unfinished downloads, by the score of the last one ended
--   wanted                   set     batches enqueued or retried between two runs, for the next one
--   kept                     zset    records of forgotten batches that keep the stat of a file
--   totals                   hash    over the whole ledger: what has ended by outcome or state, bytes by
--                            source and collection, errors by class
--   paths                    hash    final path to the download that owns it
--   workers                  zset    workers by the time they were last seen
--   worker:<name>            hash    version, accounts, closed: the folder it cannot write to
--   slots_of                 hash    slots of each live worker
--   slots                    string  their sum
--   recoverer                string  expires: the worker that recovers for all
--   looked, settles          string  when a worker was seen last; until when leases are spared
--   schema                   string  version of this layout
--   limits                   string  the settings of the worker that published them last (JSON)
--   ledger_id                string  random, made once: another value means another ledger
--   litter                   zset    ended downloads by their last token: part files to be removed
--   fence                    string  the last lease token; they only rise
--   directories              hash    directories of zip archives by checksum (packed); expires as a whole
--   mend                     string  a key was rubbish and was removed: recovery builds the rings anew

local P = KEYS[1]

-- Looked up once: each command costs less.
local send, type = redis.pcall, type

-- Every command goes through here. A key of another type than ours, and a counter that is no number,
-- is rubbish: it is removed where it is met, so that no script fails on it twice.
local function call(...)
  local answer = send(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  local command, key, counter = ...
  if string.find(answer.err, 'WRONGTYPE', 1, true) then
    redis.call('DEL', key)
    redis.call('SET', P .. 'mend', '1')
  elseif command == 'HINCRBY' then
    redis.call('HDEL', key, counter)
  end
  return redis.call(...)
end

-- Return the number in a text; `default`, or 0, for a text without one that a counter can hold.
local function number(text, default)
  local value = tonumber(text)
  if value and value > -9e15 and value < 9e15 then return value end
  return default or 0
end

-- The time of this run of a script, in seconds: one moment for all that it does.
local TIME = call('TIME')
local now = TIME[1] + TIME[2] / 1000000

local function stamp(seconds) return string.format('%.3f', seconds) end
local now_text = TIME[1] .. '.' .. string.sub('00000' .. TIME[2], -6, -4)

local function download_key(id) return P .. 'download:' .. id end
local function batch_key(name) return P .. 'batch:' .. name end
local function account_key(name, part) return P .. 'account:' .. (name or '') .. (part or '') end
local function ready_key(name, account, sources)
  return batch_key(name) .. ':ready:' .. sources .. ':' .. account
end

-- Read a hash into an object of its fields; `key` is its key.
local function load_hash(key)
  local object, values = {}, call('HGETALL', key)
  for i = 1, #values, 2 do object[values[i]] = values[i + 1] end
  object.key = key
  return object
end

-- Set fields of a hash, and of the object read from it.
local function set(object, values)
  local list, length = {}, 0
  for name, value in pairs(values) do
    object[name], list[length + 1], list[length + 2], length = value, name, value, length + 2
  end
  call('HSET', object.key, unpack(list))
end

-- Remove those of these fields that a hash has.
local function clear(object, ...)
  local found = {}
  for _, name in ipairs({ ... }) do
    if object[name] then object[name], found[#found + 1] = nil, name end
  end
  if #found > 0 then call('HDEL', object.key, unpack(found)) end
end

local function all_accounts() return call('SMEMBERS', P .. 'accounts') end

-- Build the object of a JSON text; nil for any other text.
local function decoded(text)
  local readable, value = pcall(cjson.decode, text or 'null')
  return readable and type(value) == 'table' and value or nil
end
