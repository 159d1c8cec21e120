-- Begin a new run on a private server: no worker lives, no message is on its way, no batch is kept.
-- Visits no download: what earlier runs left unfinished ends block by block (end_abandoned.lua), or
-- when the new run enqueues it again (admission.lua). Until then nothing can start it. Proofs stay.
-- ARGV: keys to remove beside those that are named here
-- Returns how many batches of earlier runs are left for end_abandoned.lua.
for _, account in ipairs(all_accounts()) do
  for _, level in ipairs(levels_of(account)) do call('UNLINK', ring_key(account, level)) end
  for _, part in ipairs({ ':leases', ':sent', ':levels', ':tape', ':poll', ':changes', '' }) do
    call('UNLINK', account_key(account, part))
  end
end
for _, name in ipairs(call('ZRANGE', P .. 'batches', 0, -1)) do
  put_aside(name, 'abandoned')
end
for _, source in ipairs({ 's3', unpack(web_hosts()) }) do call('UNLINK', P .. 'source:' .. source) end
for _, name in ipairs({ 'due', 'workers', 'slots', 'slots_of', 'recoverer', 'holds', unpack(ARGV) }) do
  call('UNLINK', P .. name)
end
return call('SCARD', P .. 'abandoned')
