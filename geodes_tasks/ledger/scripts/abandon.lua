-- Begin a new run on a private server: no worker lives, no message is on its way, no batch is kept.
-- Visits no download: what earlier runs left unfinished ends block by block (end_abandoned.lua), or
-- when the new run enqueues it again (admission.lua). Until then nothing can start it. Proofs stay.
-- ARGV: keys to remove beside those that are named here
-- Returns how many batches of earlier runs are left for end_abandoned.lua.
local accounts = all_accounts()
for _, account in ipairs(accounts) do
  for _, level in ipairs(levels_of(account)) do call('UNLINK', ring_key(account, level)) end
  for _, part in ipairs({ ':leases', ':sent', ':levels', ':tape', ':poll', ':changes', '' }) do
    call('UNLINK', account_key(account, part))
  end
end
for _, name in ipairs(call('ZRANGE', P .. 'batches', 0, -1)) do
  local key = batch_key(name)
  if call('EXISTS', key .. ':downloads') == 1 then
    -- A later run may have a batch of the same name, and be interrupted too.
    local rest = name .. ':' .. stamp(now())
    call('RENAME', key .. ':downloads', P .. 'abandoned:' .. rest)
    call('SADD', P .. 'abandoned', rest)
  end
  call('UNLINK', key, errors_key(name))
  for _, account in ipairs(accounts) do clear_ready(name, account) end
end
for _, name in ipairs({ 'batches', 'due', 'workers', 'slots', 'recoverer', 'holds' }) do
  call('UNLINK', P .. name)
end
for _, source in ipairs({ 's3', unpack(web_hosts()) }) do call('UNLINK', P .. 'source:' .. source) end
for _, name in ipairs(ARGV) do call('UNLINK', P .. name) end
return call('SCARD', P .. 'abandoned')
