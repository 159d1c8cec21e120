-- End the next downloads that earlier runs on a private server left unfinished.
-- ARGV: how many downloads to visit
-- Returns how many batches of earlier runs are left.
local most, left_over = tonumber(ARGV[1]), P .. 'left_over'
local name = call('HKEYS', left_over)[1]
if not name then return 0 end
-- By score, not by rank: downloads leave the batch when the new run enqueues them.
local key, last = batch_key(name) .. ':downloads', call('HGET', left_over, name)
local rows = call('ZRANGEBYSCORE', key, last, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
for index = 1, #rows, 2 do end_left_over(record(rows[index])) end
if #rows < 2 * most then
  call('HDEL', left_over, name)
else
  -- Two may have one score: the others with the last one end in this block too.
  local score = rows[#rows]
  for _, id in ipairs(call('ZRANGEBYSCORE', key, score, score)) do end_left_over(record(id)) end
  call('HSET', left_over, name, '(' .. score)
end
return call('HLEN', left_over)
