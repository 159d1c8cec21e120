-- Begin a new run on a private server: no worker lives, no message is on its way. Batches of earlier
-- runs stay readable. Nothing starts what they left unfinished: it ends block by block
-- (end_left_overs.lua), or when the new run enqueues it again (admission.lua). Batches that were
-- enqueued or retried between two runs belong to the new one.
-- ARGV: keys of the broker to remove
local accounts, begun = all_accounts(), {}
call('SET', P .. 'run', 'on')
for _, account in ipairs(accounts) do
  begun[#begun + 1] = call('ZRANGE', account_key(account, ':leases'), 0, -1)
  for _, part in ipairs({ ':leases', ':ring', ':poll', ':changes' }) do
    call('UNLINK', account_key(account, part))
  end
  -- What a user set by hand lasts until a user changes it.
  local a = load_hash(account_key(account))
  call('UNLINK', a.key)
  if a.by_hand then set(a, { by_hand = 1, paused = a.paused or '', paused_until = 'resume' }) end
  if a.limit_by_hand then set(a, { limit_by_hand = 1, places = a.places }) end
end
for _, name in ipairs(call('ZRANGE', P .. 'batches', 0, -1)) do
  local is_new = call('SISMEMBER', P .. 'wanted', name) == 0 and call('SADD', P .. 'earlier', name) == 1
  if is_new and unfinished_in(name) > 0 then call('HSET', P .. 'left_over', name, '-inf') end
  for _, account in ipairs(accounts) do
    if is_new then clear_ready(name, account) end
    if has_ready(name, account) then enter_ring(name, account) end
  end
end
for _, ids in ipairs(begun) do
  for _, id in ipairs(ids) do
    local d = record(id)
    if d.state == 'STARTED' then
      move(d, 'RETRY', { reason = 'worker-stopped' })
      make_ready(d, true)
    end
  end
end
for _, source in ipairs({ 's3', unpack(web_hosts()) }) do call('UNLINK', P .. 'source:' .. source) end
for _, name in ipairs({ 'wanted', 'workers', 'slots', 'slots_of', 'recoverer', unpack(ARGV) }) do
  call('UNLINK', P .. name)
end
return redis.status_reply('OK')
