-- How a download gets into the ledger.

-- The version at the end of a GEODES URN does not make another item.
local function owner_name(spec) return string.gsub(spec.item, ':V%d+$', '') .. ' ' .. spec.key end

-- Return whether two downloads may have one path: sets of members of one archive share a folder,
-- and share it with the unpacked archive.
local function share_folder(spec, other)
  return spec and other and spec.unpack and other.unpack and (spec.members or other.members)
    and type(spec.checksum) == 'string' and spec.checksum == other.checksum
end

-- Return the item that owns the path already; nil when the path is free for this download.
local function path_owner(d, path, text)
  local id = call('HGET', P .. 'paths', path)
  if not id or id == d.id then return nil end
  local other = record(id)
  end_left_over(other)
  local spec, own = decoded(other.spec), cjson.decode(text)
  if not spec or not spec.item or not spec.key then return nil end
  if share_folder(spec, own) then return nil end
  local same = owner_name(spec) == owner_name(own)
  if not (ACTIVE[other.state] or other.state == 'SUCCESS' and not same) then return nil end
  return spec.item .. (same and ' (other bytes, still under way)' or '')
end

-- Begin a download: a new one, or one that had ended.
local function begin_download(d, entry, account)
  -- The catalogue's size once more: after a download the real one stands there.
  count_in_batches(d, 'bytes_total', number(entry.size) - number(d.size))
  if d.done then set_done(d, 0) end
  move(d, 'PENDING', { spec = entry.spec, path = entry.path, size = entry.size, attempts = 0,
    account = account, sources = known_sources(entry.sources) })
  clear(d, 'error', 'finished', 'started', 'source', 'bytes', 'bytes:s3', 'bytes:geodes', 'suspect',
    'cancel', 'history', 'deaths', 'verified', 'checksum', 'members', 'gone', 'offline_since')
  call('HSET', P .. 'paths', entry.path, d.id)
  make_ready(d)
end

-- Admit one entry; return its answer (see admit_downloads.lua).
local function admit(entry, batch, account)
  local d = record(entry.id)
  if d.state and not (ACTIVE[d.state] or ENDED[d.state]) then
    end_damaged(d)
    d = record(entry.id)
  end
  if ACTIVE[d.state] and not end_left_over(d) then
    if attach(d, batch) and is_ready(d) then enqueue_in(d, batch) end
    clear(d, 'cancel')
    return 'joined'
  end
  if not entry.spec and d.state ~= 'SUCCESS' then return 'tell' end
  local other = path_owner(d, entry.path or d.path, entry.spec or d.spec)
  if other then return 'taken:' .. other end
  local proof, known = d.state == 'SUCCESS' and d.proof, d.state
  if proof and not entry.proof then return 'prove:' .. proof end
  if not entry.spec and proof ~= entry.proof then return 'tell' end
  attach(d, batch)
  if proof and proof == entry.proof then
    -- This batch found a file that was proven before: for others the record stays as it is.
    add(batch, counter_of(d, batch), -1)
    set(d, { ['present:' .. batch] = now_text })
    add(batch, counter_of(d, batch), 1)
    return 'present'
  end
  begin_download(d, entry, account)
  return known and 'again' or 'new'
end
