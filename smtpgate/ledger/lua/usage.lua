-- What one subject has sent, with the arithmetic of smtpgate/core/limits: the same numbers, one
-- by one. Every script that counts begins with the clock and this.
--
-- A subject is a hash: "a" is the moment it is as of, in microseconds; "u" the sum of its
-- counts; no minute before "o" has any; "t" its tokens in millionths, absent for a full bucket;
-- "q" the quota that was reported, "p1" to "p3" the minutes in which its thresholds were. The
-- count of a minute stands under the minute's number.
--
-- All numbers are whole and below 2^53, where Lua's are exact. Lua writes large ones with an
-- exponent, so they are written with text().

local MINUTE_US, MINUTES, TOLERANCE_US = 60000000, 1441, 5000000
local TOKEN, VERY_LONG_US, UNLIMITED = 1000000, 31622400000000, -1
local THRESHOLDS, NEVER = {80, 90, 100}, math.huge
-- No subject begins again when the clock is set back.
local SPARE_MS = 86400000

local function text(number)
    return string.format("%.0f", number)
end

local function minute_of(moment)
    return math.floor(moment / MINUTE_US)
end

local function load(key, now)
    local found = redis.call("HMGET", key, "a", "u", "o", "t", "q", "p1", "p2", "p3")
    local as_of = tonumber(found[1] or now)
    local usage = {
        key = key,
        is_known = found[1] ~= false,
        as_of = as_of,
        minute = minute_of(as_of),
        used = tonumber(found[2] or 0),
        oldest = tonumber(found[3] or minute_of(as_of)),
        tokens = found[4] and tonumber(found[4]) or nil,
        changed = {},
        more = 0,
    }
    if found[5] then
        usage.reported = {quota = tonumber(found[5])}
        for i = 1, #THRESHOLDS do
            usage.reported[i] = tonumber(found[5 + i])
        end
    end
    return usage
end

-- The counts of those minutes, in order, as changed so far.
local function counts_of(usage, first, last)
    local names, counts = {}, {}
    for minute = first, last do
        names[#names + 1] = text(minute)
    end
    if #names == 0 then
        return counts
    end
    local found = redis.call("HMGET", usage.key, unpack(names))
    for i = 1, #names do
        local change = usage.changed[first + i - 1]
        counts[i] = change or (usage.is_reset and 0) or tonumber(found[i] or 0)
    end
    return counts
end

-- The clock was set back: what was counted later than that minute is as if it were sent in it.
local function move_back(usage, minute)
    local first, sum = math.max(minute, usage.oldest), 0
    for i, count in ipairs(counts_of(usage, first, usage.minute)) do
        sum = sum + count
        usage.changed[first + i - 1] = 0
    end
    usage.changed[minute] = sum
    usage.oldest = math.min(minute, usage.oldest)
end

local function expire(usage, minute)
    local first = minute - MINUTES + 1
    if usage.oldest >= first then
        return
    end
    local from = usage.oldest
    for i, count in ipairs(counts_of(usage, from, math.min(first - 1, usage.minute))) do
        usage.used = usage.used - count
        usage.changed[from + i - 1] = 0
    end
    usage.oldest = first
end

local function depth_of(rate)
    return rate == 0 and 0 or math.floor(math.max(rate, 1) * TOKEN)
end

local function earned(tokens, rate, passed)
    if rate == UNLIMITED then
        return nil
    end
    local depth = depth_of(rate)
    if tokens == nil or tokens >= depth then
        return depth
    end
    return tokens + math.floor(math.min(passed * rate, depth - tokens))
end

local function is_moved_back(usage, now)
    return usage.is_known and now < usage.as_of - TOLERANCE_US
end

-- The usage as seen now.
local function see(usage, rate, now)
    local is_late = usage.as_of - TOLERANCE_US <= now and now < usage.as_of
    local moment = is_late and usage.as_of or now
    local minute = minute_of(moment)
    if minute < usage.minute then
        move_back(usage, minute)
    elseif minute - usage.minute >= MINUTES or usage.used == 0 then
        usage.is_reset, usage.changed, usage.used, usage.oldest = true, {}, 0, minute
    else
        expire(usage, minute)
    end
    if moment < usage.as_of and usage.reported then
        for i = 1, #THRESHOLDS do
            usage.reported[i] = math.min(usage.reported[i], minute)
        end
    end
    usage.tokens = earned(usage.tokens, rate, math.max(0, moment - usage.as_of))
    usage.as_of, usage.minute = moment, minute
end

local function count(usage, recipients)
    usage.more = recipients
    usage.used = usage.used + recipients
    if usage.tokens then
        usage.tokens = usage.tokens - recipients * TOKEN
    end
end

local function give_back(usage, minute, recipients, only_quota)
    if usage.tokens then
        usage.tokens = usage.tokens + (recipients - only_quota) * TOKEN
    end
    local own, left = math.min(minute, usage.minute), recipients
    if usage.minute - own >= MINUTES then
        return
    end
    local function take(first, last)
        for i, number in ipairs(counts_of(usage, first, last)) do
            local taken = math.min(number, left)
            if taken > 0 then
                usage.changed[first + i - 1] = number - taken
                left = left - taken
            end
        end
    end
    if own >= usage.oldest then
        take(own, own)
    end
    if left > 0 then
        take(usage.oldest, usage.minute)
    end
    usage.used = usage.used - recipients + left
end

-- The moment from which no more than that is counted.
local function frees_at(usage, wanted)
    local used = usage.used
    -- An hour at a time: most refusals need to look at no more than the oldest.
    for first = usage.oldest, usage.minute, 60 do
        for i, number in ipairs(counts_of(usage, first, math.min(first + 59, usage.minute))) do
            used = used - number
            if used <= wanted then
                return (first + i - 1 + MINUTES) * MINUTE_US
            end
        end
    end
end

-- The moment from which so many fit into the quota; nil when they fit now.
local function room_at(usage, quota, recipients)
    if quota == UNLIMITED or usage.used + recipients <= quota then
        return nil
    end
    return recipients > quota and NEVER or frees_at(usage, quota - recipients)
end

-- The moment from which the bucket holds something; nil when it does now.
local function lends_at(usage, rate)
    if not usage.tokens or usage.tokens > 0 then
        return nil
    end
    if rate == 0 then
        return NEVER
    end
    return usage.as_of + math.ceil(math.min((2 - usage.tokens) / rate, VERY_LONG_US))
end

-- The places in THRESHOLDS of those that are reached and not reported in the last 24 hours.
local function reached(usage, quota)
    local places = {}
    if quota == UNLIMITED then
        return places
    end
    for i, percent in ipairs(THRESHOLDS) do
        local reported_at = usage.reported and usage.reported.quota == quota and usage.reported[i] or -1
        if usage.used * 100 >= quota * percent and reported_at <= usage.minute - (MINUTES - 1) then
            places[#places + 1] = i
        end
    end
    return places
end

local function report_crossings(usage, quota)
    local places = reached(usage, quota)
    if #places > 0 and not (usage.reported and usage.reported.quota == quota) then
        usage.reported = {quota = quota, -1, -1, -1}
    end
    for _, i in ipairs(places) do
        usage.reported[i] = usage.minute
    end
    return places
end

local function save(usage, rate)
    local key = usage.key
    if usage.is_reset then
        redis.call("DEL", key)
    end
    for minute, number in pairs(usage.changed) do
        if number == 0 then
            redis.call("HDEL", key, text(minute))
        else
            redis.call("HSET", key, text(minute), text(number))
        end
    end
    if usage.more > 0 then
        redis.call("HINCRBY", key, text(usage.minute), text(usage.more))
    end
    redis.call("HSET", key, "a", text(usage.as_of), "u", text(usage.used), "o", text(usage.oldest))
    local lasts = (usage.minute + MINUTES) * MINUTE_US - usage.as_of
    if usage.tokens then
        redis.call("HSET", key, "t", text(usage.tokens))
        local lacking = math.max(0, depth_of(rate) - usage.tokens)
        if rate > 0 then
            lasts = math.max(lasts, math.min(lacking / rate, VERY_LONG_US))
        end
    else
        redis.call("HDEL", key, "t")
    end
    local reported = usage.reported
    if reported then
        redis.call("HSET", key, "q", text(reported.quota),
            "p1", text(reported[1]), "p2", text(reported[2]), "p3", text(reported[3]))
    end
    redis.call("PEXPIRE", key, text(math.ceil(lasts / 1000) + SPARE_MS))
end
