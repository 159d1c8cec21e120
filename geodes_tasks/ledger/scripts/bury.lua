-- A worker cannot read the record that it has claimed. ARGV: id, token
-- Returns 1 when the record has ended now.
if not holds(ARGV[1], ARGV[2]) then return 0 end
bury(ARGV[1])
return 1
