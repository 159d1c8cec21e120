-- Take a block of downloads into the ledger: all entries of the block or none.
-- ARGV: batch, account, values of each entry (1, 2 or 7), then for each entry
--   id
--   proof: empty on the first call; on the second the stat of the caller, '-' for no file
--   path, size, spec (JSON), sources that can serve it: empty for what is likely known already
--   footprint: of the item, with its first entry, '-' for none; kept with the first not refused
-- Returns JSON, one answer an entry: new | joined | again | present | prove:<proof> | taken:<other item>
--   | tell (it is not known well enough: send all of it)
local batch, account, width = ARGV[1], ARGV[2], tonumber(ARGV[3])

local function value_at(index) return ARGV[index] ~= '' and ARGV[index] or nil end

open_batch(batch, account)
local answers, footprint = {}, '-'
for first = 4, #ARGV, width do
  local entry = { id = ARGV[first], proof = width > 1 and value_at(first + 1) or nil }
  if width > 2 then
    entry.path, entry.size, entry.spec = value_at(first + 2), ARGV[first + 3], value_at(first + 4)
    entry.sources, footprint = value_at(first + 5), value_at(first + 6) or footprint
  end
  local answer = admit(entry, batch, account)
  answers[#answers + 1] = answer
  if footprint ~= '-' and string.match(answer, '^%l+$') then
    call('HSET', download_key(entry.id), 'footprint', footprint)
    footprint = '-'
  end
end
return cjson.encode(answers)
