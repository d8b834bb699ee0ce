-- Everything that the nodes of a share do in the store: one call is one decision, or one step of an exchange.
--
-- All keys have the same hash tag, so that they are in one slot of a cluster. All times are the store's own, in
-- milliseconds (starts in microseconds), so that the clocks of the nodes do not matter. Every key that is written gets an end.
-- tests/share_model.py must stay in step with this file.

local op = ARGV[1]
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)

local digest_bytes, longest_node, most_nodes = 16, 256, 10000

local function keep(key, ms)
  if redis.call('PTTL', key) < ms then
    redis.call('PEXPIRE', key, ms)
  end
end

-- Caps: KEYS are the kicked sessions, then for each cap the ends of its leases and the starts of its sessions.
-- ARGV are the channel, the session, its lease and its age (in microseconds), then for each cap its limit and its tag.
-- A cap without a tag refuses the newcomer, one with a tag ends the oldest session. The starts are only kept for such
-- caps.
local function caps()
  local list = {}
  for i = 1, (#KEYS - 1) / 2 do
    list[i] = {leases = KEYS[2 * i], starts = KEYS[2 * i + 1], limit = tonumber(ARGV[4 + 2 * i]), tag = ARGV[5 + 2 * i]}
  end
  return list
end

local function remove_ended(cap)
  if cap.tag == '' then
    redis.call('ZREMRANGEBYSCORE', cap.leases, '-inf', now)
    return
  end
  repeat
    local ended = redis.call('ZRANGEBYSCORE', cap.leases, '-inf', now, 'LIMIT', 0, 1000)
    if #ended > 0 then
      redis.call('ZREM', cap.leases, unpack(ended))
      redis.call('ZREM', cap.starts, unpack(ended))
    end
  until #ended < 1000
end

-- Ends the oldest session of a cap. Returns it after the tag, or nil if only its start was left, or if it is no session:
-- others can write to the store too.
local function kick_oldest(cap, channel)
  local oldest = redis.call('ZRANGE', cap.starts, 0, 0)[1] or redis.call('ZRANGE', cap.leases, 0, 0)[1]
  local ends = redis.call('ZSCORE', cap.leases, oldest)
  redis.call('ZREM', cap.starts, oldest)
  redis.call('ZREM', cap.leases, oldest)
  if not ends or #oldest ~= digest_bytes then
    return nil
  end
  -- Remembered for as long as its node can ask about it, even if the message is lost.
  local remembered = 2 * (ends - now)
  redis.call('ZADD', KEYS[1], now + remembered, cap.tag .. oldest)
  keep(KEYS[1], remembered)
  redis.call('PUBLISH', channel, 'K' .. cap.tag .. oldest)
  return cap.tag .. oldest
end

-- Takes a lease for a session in each of its caps. Returns the number of the cap that refuses it, its negative if the
-- session has been ended for a newer one, else 0 and the sessions that are ended for this one, each after the tag.
local function lease(is_newcomer)
  local channel, session, duration, age = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
  local list, kicked = caps(), {0}
  for i, cap in ipairs(list) do
    if cap.tag ~= '' then
      local ends = redis.call('ZSCORE', KEYS[1], cap.tag .. session)
      if ends and tonumber(ends) > now then
        return {-i}
      end
    end
  end
  if is_newcomer then
    for i, cap in ipairs(list) do
      remove_ended(cap)
      cap.counted = redis.call('ZSCORE', cap.leases, session)
      if cap.tag == '' and not cap.counted and redis.call('ZCARD', cap.leases) >= cap.limit then
        return {i}
      end
    end
    for _, cap in ipairs(list) do
      while cap.tag ~= '' and not cap.counted and redis.call('ZCARD', cap.leases) >= cap.limit do
        kicked[#kicked + 1] = kick_oldest(cap, channel)
      end
    end
    if #kicked > 1 then
      redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
    end
  end
  for _, cap in ipairs(list) do
    redis.call('ZADD', cap.leases, now + duration, session)
    keep(cap.leases, duration)
    if cap.tag ~= '' then
      redis.call('ZADD', cap.starts, 'NX', micros - age, session)
      keep(cap.starts, duration)
    end
  end
  return kicked
end

local function release()
  for _, cap in ipairs(caps()) do
    redis.call('ZREM', cap.leases, ARGV[3])
    if cap.tag ~= '' then
      redis.call('ZREM', cap.starts, ARGV[3])
    end
  end
  return {0}
end

-- Nodes and denials: KEYS are the leases of the nodes, the denials by their digest, and the ends of the denials.

local function nodes_between(first, last)
  local nodes = {}
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], first, last, 'LIMIT', 0, most_nodes)) do
    if #name <= longest_node then
      nodes[#nodes + 1] = name
    end
  end
  return nodes
end

-- Renews the lease of a node, or removes it if the lease is 0. Returns the nodes, the digests of all denials, and the
-- nodes whose lease has ended a while ago, so that they have stopped without a word. What no node has written is left out.
local function pull()
  local node, duration, remembered = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
  if duration > 0 then
    -- First of all: a store that is full refuses a script at its first write only.
    redis.call('ZADD', KEYS[1], now + duration, node)
    keep(KEYS[1], duration + remembered)
  else
    redis.call('ZREM', KEYS[1], node)
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - remembered)
  local ended = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1000)
  if #ended > 0 then
    redis.call('ZREM', KEYS[3], unpack(ended))
    redis.call('HDEL', KEYS[2], unpack(ended))
  end
  local digests = {}
  for _, digest in ipairs(redis.call('HKEYS', KEYS[2])) do
    if #digest == digest_bytes then
      digests[#digests + 1] = digest
    end
  end
  return {nodes_between('(' .. now, '+inf'), table.concat(digests), nodes_between('-inf', now)}
end

-- Returns records by their digests: false for one that is gone, '' for one that is too long to be one.
local function fetch()
  local longest, records = tonumber(ARGV[2]), {}
  for i = 3, #ARGV do
    local is_long = redis.call('HSTRLEN', KEYS[2], ARGV[i]) > longest
    records[#records + 1] = is_long and '' or redis.call('HGET', KEYS[2], ARGV[i])
  end
  return records
end

-- Adds a denial, and tells all nodes. Returns 1 if it was added, 0 if it was there or has ended, -1 if there are too many.
local function put()
  local channel, most, digest, ends, record = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), ARGV[6]
  if ends <= now or redis.call('HEXISTS', KEYS[2], digest) == 1 then
    return 0
  end
  if redis.call('HLEN', KEYS[2]) >= most then
    return -1
  end
  redis.call('HSET', KEYS[2], digest, record)
  redis.call('ZADD', KEYS[3], ends, digest)
  keep(KEYS[2], ends - now)
  keep(KEYS[3], ends - now)
  redis.call('PUBLISH', channel, 'D' .. digest .. record)
  return 1
end

if op == 'admit' then return lease(true) end
if op == 'refresh' then return lease(false) end
if op == 'release' then return release() end
if op == 'pull' then return pull() end
if op == 'fetch' then return fetch() end
if op == 'put' then return put() end
return redis.error_reply('ERR unknown operation')
