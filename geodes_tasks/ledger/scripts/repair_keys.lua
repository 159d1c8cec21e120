-- Remove rubbish from keys that programs read without a script, and build what it replaced anew.
-- Returns 1 when rings were built anew.
local KEYS_READ = { accounts = 'SCARD', batches = 'ZCARD', due = 'ZCARD', workers = 'ZCARD',
  forgotten = 'SCARD', hosts = 'SCARD', totals = 'HLEN', paths = 'HLEN', holds = 'HLEN', litter = 'ZCARD',
  slots = 'GET', slots_of = 'HLEN', limits = 'GET', fence = 'GET', hooks = 'GET', schema = 'GET',
  ['since:turn'] = 'ZCARD' }
local PARTS_READ = { [''] = 'HLEN', [':leases'] = 'ZCARD', [':sent'] = 'ZCARD', [':spent'] = 'ZCARD',
  [':tape'] = 'ZCARD', [':poll'] = 'HLEN', [':changes'] = 'LLEN', [':ring'] = 'ZCARD' }
-- No clock of ours writes a time so far ahead.
local later = '(' .. stamp(now + 86400)

-- The call removes a key of another type.
for key, command in pairs(KEYS_READ) do call(command, P .. key) end
for _, account in ipairs(all_accounts()) do
  for part, command in pairs(PARTS_READ) do call(command, account_key(account, part)) end
  call('ZREMRANGEBYSCORE', account_key(account, ':spent'), later, '+inf')
  for _, part in ipairs({ ':leases', ':sent' }) do
    local key = account_key(account, part)
    for _, id in ipairs(call('ZRANGEBYSCORE', key, later, '+inf', 'LIMIT', 0, 100)) do
      call('ZADD', key, now_text, id)
    end
  end
end
if call('DEL', P .. 'mend') == 0 then return 0 end
for _, name in ipairs(call('ZREVRANGE', P .. 'batches', 0, 999)) do
  local own = call('HGET', batch_key(name), 'account')
  if own then call('SADD', P .. 'accounts', own) end
  rejoin_rings(name)
end
return 1
