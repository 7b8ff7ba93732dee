-- intent: the mark that a transaction over several shards leaves in each context it will change: `<txn> <deadline ms> <part> <home>`, from its first
--   phase until it is settled. The decision stands in the record of part 0, in shard `home`. One that is malformed is none: the record knows better.
local function intent_of(stored)
  local txn, deadline, part, home = string.match(stored.intent or '', '^(%S+) (%d+) (%d+) (%d+)$')
  if txn then
    return { 'LOCKED', txn, tonumber(deadline), tonumber(part), tonumber(home) }
  end
end
