-- What annotations ask of a route, done in HAProxy: `policy` for each request whose route has one, `authenticate` after it.
-- The policy is a row of the map `policies` (vrata.ingress.policy); rows never change, so each is read once a thread.
-- Whatever cannot be read or decided refuses the request: an open door is worse than a closed one.
local policies = Map.new(os.getenv("VRATA_POLICIES"), Map._str)
local versions = Map.new(os.getenv("VRATA_USERS"), Map._str)
local owners = Map.new(os.getenv("VRATA_OWNERS"), Map._str)
local ROUTES, PATTERNS = {}, {}
for _, scheme in ipairs{"http", "https"} do
  ROUTES[scheme] = Map.new(os.getenv("VRATA_DIRECTORY") .. "/routes-" .. scheme .. ".map", Map._beg)
  PATTERNS[scheme] = Map.new(os.getenv("VRATA_DIRECTORY") .. "/patterns-" .. scheme .. ".map", Map._str)
end
local known, number = {}, 0
local MOST_KNOWN = 20000
local AUTH_TIMEOUT_MS = 5000
local ERROR_TIMEOUT_MS = 5000
local LONGEST = tonumber(os.getenv("VRATA_LONGEST")) -- bytes: what is sent goes through one buffer
local MOST_HEADERS = tonumber(os.getenv("VRATA_MOST_HEADERS")) -- that HAProxy takes in one message
local LONGEST_MATCHED = 1024 -- characters that a regular expression is tried on, as in vrata.ingress.annotations.grammar
local LONGEST_ORIGIN = 300 -- scheme, DNS name and port
local MOST_COPIES, COPY_TIMEOUT_MS = 50, 5000 -- of requests, under way in this thread
local copies = 0

-- Clients and pods choose much of the text that these functions read, so the work of each grows no faster than its input.
-- Patterns are literals that cannot backtrack (tests/unit/ingress/test_lua_patterns.py checks their shape), and a table, not
-- a function, replaces single characters.
local BYTE, ESCAPED = {}, {}
for byte = 0, 255 do
  local upper, lower, char = ("%02X"):format(byte), ("%02x"):format(byte), string.char(byte)
  local high, low = upper:sub(1, 1), upper:sub(2, 2)
  BYTE[upper], BYTE[lower], BYTE[high:lower() .. low], BYTE[high .. low:lower()] = char, char, char, char
  ESCAPED[char] = "%" .. upper
end

local function decoded(text)
  return (text:gsub("%%(%x%x)", BYTE))
end

local function listed(text)
  local items = {}
  for item in text:gmatch("[^,]+") do items[#items + 1] = decoded(item) end
  return items
end

local REPLICAS = listed(os.getenv("VRATA_REPLICAS"))
local REPLICA = table.remove(REPLICAS, 1) -- the others are left

-- Networks by the length of their addresses, each with its first and last one as digits of base 16: so they compare. IPv6 is
-- written in full.
local function networks(text)
  local found = {[8] = {}, [32] = {}}
  for _, item in ipairs(listed(text)) do
    local address, length = item:match("^([^/]*)/(%d*)$")
    local a, b, c, d = address:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
    local first = a and ("%02x%02x%02x%02x"):format(a, b, c, d) or address:gsub(":", "")
    local bits = tonumber(length)
    local kept = bits // 4
    local digit = kept < #first and ("%x"):format(tonumber(first:sub(kept + 1, kept + 1), 16) | (15 >> bits % 4)) or ""
    local ranges = found[#first]
    ranges[#ranges + 1] = {first, first:sub(1, kept) .. digit .. ("f"):rep(#first - kept - 1)}
  end
  return found
end

local function pattern(text)
  local valid, compiled = Regex.new(decoded(text), true)
  return valid and compiled or nil
end

-- A name as a whole (`$` would take a line's end, too); no name, if the pattern can not be read.
local function whole(text)
  local valid, compiled = Regex.new("^(?:" .. decoded(text) .. ")\\z", true)
  return valid and compiled or {exec = function() return false end}
end

local function members(text)
  local found = {}
  for _, item in ipairs(listed(text)) do found[item] = true end
  return found
end

local READ = {
  headers = listed, ["auth-set"] = listed, errors = members, careful = members,
  ["canary-pattern"] = pattern, ["client-name"] = whole,
  ["cookie-domain"] = listed, ["cookie-path"] = listed, location = listed,
  allow = networks, deny = networks, ["limit-exempt"] = networks, ["cors-origins"] = listed, ["auth-headers"] = listed,
}

-- The text of a policy; of a long one each part is a row of its own.
local function written(name)
  local text = policies:lookup(name)
  local count = text and tonumber(text:match("^parts=(%d+)"))
  if not count then return text end
  local parts = {}
  for number = 1, count do
    parts[number] = policies:lookup(name .. "/" .. number)
    if not parts[number] then return nil end
  end
  return table.concat(parts)
end

local function find(name)
  local policy = known[name]
  if policy or name == "p-0" then return policy or {} end
  local text = written(name)
  if not text then return nil end
  policy = {}
  for word in text:gmatch("%S+") do
    local key, value = word:match("^([^=]*)=(.*)$")
    if key then policy[key] = (READ[key] or decoded)(value) end
  end
  if number >= MOST_KNOWN then known, number = {}, 0 end
  known[name], number = policy, number + 1
  return policy
end

local function answer(txn, status, headers, body)
  local reply = txn:reply{status = status, body = body or ""}
  for name, value in pairs(headers) do
    for _, one in ipairs(type(value) == "table" and value or {value}) do reply:add_header(name, one) end
  end
  txn:done(reply)
end

local function refuse(txn, status, body)
  answer(txn, status, {["content-type"] = "text/plain"}, body .. "\n")
end

-- Whether an address is in one of some networks: they are in order, and do not overlap.
local function contains(found, address)
  local ranges = found[#address]
  local low, high = 1, #ranges
  while low <= high do
    local middle = (low + high) // 2
    if ranges[middle][1] <= address then low = middle + 1 else high = middle - 1 end
  end
  return high > 0 and address <= ranges[high][2]
end

-- The client's address as networks are kept; an IPv4 one is the same however its connection is made.
local function source_of(txn)
  local address = txn:get_var("txn.source")
  return #address == 32 and address:sub(1, 24) == "00000000000000000000ffff" and address:sub(25) or address
end

local function first(headers, name)
  local values = headers[name]
  return values and values[0]
end

local function all(headers, name)
  local values, found = headers and headers[name] or {}, {}
  for index = 0, #values do found[#found + 1] = values[index] end
  return found
end

-- Goes through headers that are written `name:value`.
local function named(items)
  local index = 0
  return function()
    index = index + 1
    local item = (items or {})[index]
    if item then return item:match("^([^:]*):(.*)$") end
  end
end

local BLANK, SEMICOLON = {[(" "):byte()] = true, [("\t"):byte()] = true}, (";"):byte()

-- The first cookie of this name (RFC 6265, section 4.2.1).
local function cookie(headers, wanted)
  local texts, start = headers["cookie"] or {}, wanted .. "="
  for index = 0, #texts do
    local text, from = texts[index] or "", 1
    while from do
      local at, last = text:find(start, from, true)
      if not at then break end
      local before = at - 1
      while BLANK[text:byte(before)] do before = before - 1 end
      if before == 0 or text:byte(before) == SEMICOLON then return text:match("^[^;]*", last + 1) end
      from = last + 1
    end
  end
end

local function escaped(text)
  return (text:gsub("[^%w%-._~]", ESCAPED))
end

local VARIABLES = {
  host = function(txn) return txn:get_var("txn.name") end,
  scheme = function(txn) return txn:get_var("txn.scheme") end,
  request_uri = function(txn) return txn:get_var("txn.uri") end,
  escaped_request_uri = function(txn) return escaped(txn:get_var("txn.uri")) end,
  uri = function(txn) return txn.f:path() end,
  args = function(txn) return txn.f:query() or "" end,
}

-- A template with nginx's variables filled in; nil if that is longer than what HAProxy can send. Tenants repeat variables,
-- clients choose how long they are.
local function expanded(txn, template)
  local length = #template
  local text = template:gsub("%$([a-z_]+)", function(name)
    if length > LONGEST then return "" end
    local value = VARIABLES[name] and VARIABLES[name](txn)
    length = length + #(value or "")
    return value
  end)
  if length <= LONGEST then return text end
end

local function too_long(txn)
  refuse(txn, 414, "this address is too long for what the route makes of it")
end

local function redirect(txn, status, template)
  local location = expanded(txn, template)
  if not location then return too_long(txn) end
  answer(txn, status, {location = location})
end

local function origin_allowed(origins, origin)
  if #origin > LONGEST_ORIGIN then return false end
  for _, allowed in ipairs(origins) do
    if allowed == "*" or allowed == origin then return true end
    local scheme, rest = allowed:match("^(%w+://)%*(%..+)$")
    if scheme and origin:sub(1, #scheme) == scheme and #origin > #scheme + #rest and origin:sub(-#rest) == rest
      and not origin:sub(#scheme + 1, -#rest - 1):find("[^%w%-]") then return true end
  end
  return false
end

-- Responses, also our own, get these by rules of the configuration.
local function allow_origin(txn, policy, headers, method)
  local origin = first(headers, "origin")
  if not origin or not origin_allowed(policy["cors-origins"], origin) then return end
  txn:set_var("txn.cors_origin", policy["cors-credentials"] and origin or
    (policy["cors-origins"][1] == "*" and "*" or origin))
  if policy["cors-credentials"] then txn:set_var("txn.cors_credentials", "true") end
  if policy["cors-expose"] then txn:set_var("txn.cors_expose", policy["cors-expose"]) end
  if method == "OPTIONS" and headers["access-control-request-method"] then
    answer(txn, 204, {
      ["access-control-allow-methods"] = policy["cors-methods"],
      ["access-control-allow-headers"] = policy["cors-headers"],
      ["access-control-max-age"] = policy["cors-age"] or "0",
    })
  end
end

-- ingress-nginx: a header that says always, never or the value decides; then such a cookie; then the weight.
local function is_canary(policy, headers)
  local header = policy["canary-header"] and first(headers, policy["canary-header"])
  local value, matched = policy["canary-value"], policy["canary-pattern"]
  if header and (value or matched) then
    if header == value or (matched and #header <= LONGEST_MATCHED and matched:exec(header)) then return true end
  elseif header == "always" or header == "never" then
    return header == "always"
  end
  local said = policy["canary-cookie"] and cookie(headers, policy["canary-cookie"])
  if said == "always" or said == "never" then return said == "always" end
  local weight = tonumber(policy["canary-weight"] or 0)
  return weight > 0 and math.random(tonumber(policy["canary-total"])) <= weight
end

-- What another Service has to know of an error that it answers for (ingress-nginx, «Custom errors»).
local function of_error(txn, policy, status, slot)
  local namespace, name = policy["errors-of"]:match("^([^/]*)/(.*)$")
  local service, port = (owners:lookup(slot) or ""):match("^[^/]*/([^:]*):([^;]*)")
  return {
    ["x-code"] = status, ["x-format"] = txn:get_var("txn.format") or "", ["x-original-uri"] = txn:get_var("txn.uri"),
    ["x-namespace"] = namespace, ["x-ingress-name"] = name, ["x-service-name"] = service, ["x-service-port"] = port,
  }
end

-- Routes of a host whose cookies have the same name and path share one cookie, so it has an entry for each Service: the pod,
-- then the Service, `s-POD.SERVICE`, the newest first. An entry without a Service is of an older version.
local MOST_BOUND, LONGEST_BOUND = 8, 100

local function service_tag(txn, slot)
  return ("%08x"):format(txn.c:crc32((owners:lookup(slot) or ""):match("^[^;]*")))
end

local function bound(text)
  local found = {}
  for entry in text:gmatch("[^_]+") do
    local server, service = entry:match("^(s%-[%w-]+)%.(%x+)$")
    if server and #entry <= LONGEST_BOUND and #found < MOST_BOUND then
      found[#found + 1] = {server = server, service = service, text = entry}
    end
  end
  return found
end

-- A client that has a server's cookie stays with it, on whichever side of a canary that is.
local function choose(txn, policy, headers)
  local said = policy.cookie and cookie(headers, policy.cookie) or ""
  local entries = bound(said)
  local main, others = txn:get_var("txn.slot"):match("^([^+|]+)(.*)$")
  local canary, fallback = others:match("^%+([^|]*)") or "", others:match("|(.*)") or ""
  local old, old_side = said:match("^(s%-[%w-]+)(~?)$")
  local second = false
  if canary ~= "" then
    local ours, theirs = service_tag(txn, main), service_tag(txn, canary)
    local side = old and (old_side ~= "" and theirs or ours)
    for _, one in ipairs(entries) do side = side or (one.service == ours or one.service == theirs) and one.service end
    if side then second = side ~= ours else second = is_canary(policy, headers) end
  end
  local slot = second and canary or main
  if fallback ~= "" and txn.c:nbsrv(slot) == 0 then
    for name, value in pairs(policy.errors and policy.errors["503"] and of_error(txn, policy, "503", slot) or {}) do
      txn.http:req_set_header(name, value)
    end
    slot = fallback
  elseif fallback ~= "" and policy.errors then
    txn:set_var("txn.fallback", fallback)
  end
  txn:set_var("txn.slot", slot)
  if policy.cookie and slot ~= fallback then -- names of the fallback's servers are not for clients
    local service, server, rest = service_tag(txn, slot), old, ""
    for _, one in ipairs(entries) do
      if one.service == service then server = server or one.server
      else rest = rest .. "_" .. one.text end
    end
    if server then txn:set_var("txn.server", server) end
    txn:set_var("txn.cookie", policy.cookie)
    local secure = policy["cookie-secure"] and txn:get_var("txn.scheme") == "https" and "; Secure" or ""
    local attributes = "; Path=" .. (policy["cookie-at"] or "/") .. policy["cookie-attributes"] .. secure
    txn:set_var("txn.cookie_attributes", "." .. service .. rest .. attributes)
  end
end

local HASHED = {
  ["$remote_addr"] = function(txn) return txn.f:src() end,
  ["$binary_remote_addr"] = function(txn) return txn.f:src() end,
  ["$request_uri"] = function(txn) return txn:get_var("txn.uri") end,
  ["$uri"] = function(txn) return txn.f:path() end,
  ["$host"] = function(txn) return txn:get_var("txn.name") end,
}

local function none() return 0 end
local COUNTED = {
  second = function(txn, key, counters) return txn.c:table_gpc0_rate(key, counters) end,
  minute = function(txn, key, counters) return txn.c:table_gpc1_rate(key, counters) end,
  connections = none,
}

-- What other replicas have let in leaves less for this one.
local function limit(txn, policy, source)
  if not policy.limit or (policy["limit-exempt"] and contains(policy["limit-exempt"], source)) then return end
  local key, burst = " " .. policy.limit .. " " .. txn.f:src(), policy["limit-burst"]
  local counters = "limits-" .. (burst or "")
  txn:set_var("txn.limit", REPLICA .. key)
  if burst then txn:set_var("txn.limit_burst", burst) end
  for kind, counted in pairs(COUNTED) do
    local most = tonumber(policy["limit-" .. kind])
    if most then
      for _, other in ipairs(REPLICAS) do most = most - counted(txn, other .. key, counters) end
      txn:set_var("txn.limit_" .. kind, most)
    end
  end
end

local function rewrite(txn, path)
  local plain, query = path:match("^([^?]*)%??(.*)$")
  txn.http:req_set_path(plain)
  if query ~= "" then
    local asked = txn.f:query() or ""
    txn.http:req_set_query(asked == "" and query or query .. "&" .. asked)
  end
end

-- ingress-nginx, «Client Certificate Authentication». A connection is of the authority whose certificates were asked for
-- when it was made, for the name that the client gave then; another host's requests are not for it.
local function check_client(txn, policy)
  local used = txn.f:ssl_c_used()
  used = used == true or used == 1
  local wrong = used and txn.f:ssl_c_verify() or 0
  if txn:get_var("txn.scheme") == "https"
    and (txn:get_var("sess.name") ~= txn:get_var("txn.name") or txn:get_var("sess.authority") ~= policy["client-authority"]) then
    return refuse(txn, 421, "this connection was made for another name")
  end
  local missing, invalid = policy.client == "on" and not used, policy.client ~= "optional_no_ca" and wrong ~= 0
  if policy["client-page"] and (missing or invalid) then
    return redirect(txn, 302, policy["client-page"])
  end
  if missing then return refuse(txn, 400, "no required certificate was sent") end
  if invalid then return refuse(txn, 400, "the certificate is not valid here") end
  local name = used and txn.f:ssl_c_s_dn("CN")
  if policy["client-name"] and not (name and #name <= LONGEST_MATCHED and policy["client-name"]:exec(name)) then
    return refuse(txn, 403, "the certificate is not for this name")
  end
  txn.http:req_set_header("ssl-client-verify", not used and "NONE" or wrong == 0 and "SUCCESS" or "FAILED:" .. wrong)
  if not used then return end
  txn.http:req_set_header("ssl-client-subject-dn", txn.f:ssl_c_s_dn("", 0, "rfc2253"))
  txn.http:req_set_header("ssl-client-issuer-dn", txn.f:ssl_c_i_dn("", 0, "rfc2253"))
  if policy["client-pass"] then
    local text, lines = txn.c:base64(txn.f:ssl_c_der()), {"-----BEGIN CERTIFICATE-----"}
    for at = 1, #text, 64 do lines[#lines + 1] = text:sub(at, at + 63) end
    lines[#lines + 1] = "-----END CERTIFICATE-----\n"
    local pem = table.concat(lines, "\n")
    txn.http:req_set_header("ssl-client-cert", escaped(pem))
  end
end

-- How servers read a path: each of these makes one text of another, or nil where it changes nothing. Servers do several of
-- them, some twice, in orders of their own (tests/hostile/ingress/test_guards.py has their forms).
local UNFIT = {} -- for a row's key, as vrata.ingress.rows writes them
for byte = 0, 255 do UNFIT[string.char(byte)] = ("%%%02x"):format(byte) end

-- Without `.` and `..`, and without `//` unless these are kept (RFC 3986, section 5.2.4, keeps them); false: out of the root.
local function normal(text, keep)
  local parts, count, last = {}, 0, ""
  for part in text:gmatch("/([^/]*)") do
    last = part
    if part == ".." then
      if count == 0 then return false end
      parts[count], count = nil, count - 1
    elseif part ~= "." and (keep or part ~= "") then
      count = count + 1
      parts[count] = part
    end
  end
  local open = count > 0 and (last == "." or last == ".." or (last == "" and not keep))
  return "/" .. table.concat(parts, "/") .. (open and "/" or "")
end

local RESTS = {[192] = 1, [193] = 1, [224] = 2, [240] = 3, [248] = 4, [252] = 5} -- bytes after one that begins with zeros

-- UTF-8 in more bytes than needed, as decoders read it that take six bits of whatever follows; nil if there is none.
local function shortened(text)
  local parts, from, at = {}, 1, text:find("[\192\193\224\240\248\252]")
  while at do
    local lead, code = text:byte(at), 0
    if lead == 193 then code = 1 end
    for rest = 1, RESTS[lead] do code = code * 64 + (text:byte(at + rest) or 128) % 64 end
    if code < 128 and at + RESTS[lead] <= #text then
      parts[#parts + 1] = text:sub(from, at - 1) .. string.char(code)
      at = at + RESTS[lead]
      from = at + 1
    end
    at = text:find("[\192\193\224\240\248\252]", at + 1)
  end
  return from > 1 and table.concat(parts) .. text:sub(from) or nil
end

-- Windows: names do not end in dots and blanks.
local function trimmed(part)
  local blank = #part
  while blank > 0 and part:byte(blank) == 32 do blank = blank - 1 end
  local short = part:sub(1, blank)
  if short == "." or short == ".." then return short end
  while blank > 0 and (part:byte(blank) == 46 or part:byte(blank) == 32) do blank = blank - 1 end
  return part:sub(1, blank)
end

-- Windows: `ADMINI~1` may be any name that is longer or has other characters.
local function has_short_name(text)
  for base in text:gmatch("/([^/.~]*~%d+)") do
    if #base <= 8 then return true end
  end
  return false
end

local function last_part(text) -- where it begins
  return #text - (text:reverse():find("/", 1, true) or #text) + 2
end

-- What follows segments as `(S(id)F(id))`, where ASP.NET keeps sessions and the like.
local function after_session(part)
  local at = 1
  for _ = 1, #part do
    local after = part:match("^%a%([^()]*%)()", at)
    if not after then break end
    at = after
  end
  if at > 1 and part:sub(at, at) == ")" then return part:sub(at + 1) end
end

local SCRIPTS = members("php,php2,php3,php4,php5,php6,php7,php8,phps,pht,phtml,phar,cgi,fcgi,pl,psgi,py,wsgi,rpy,rb,lua,tcl,sh,"
  .. "bat,cmd,asp,aspx,ashx,asmx,axd,svc,cshtml,shtml,jsp,jspx,cfm,cfml,cfc,dll,exe")
local FORMATS = members("json,xml,html,htm,txt,csv,js,css,pdf,rss,atom,yaml,yml,ics,zip,png,jpg,svg,md,do,action")

local function normalized(text) return (text:find("//", 1, true) or text:find("/.", 1, true)) and normal(text) end

local READINGS = {
  normalized,
  function(text) return text:find("%u") and text:lower() end, -- Windows, Express
  function(text) return text:find("%", 1, true) and decoded(text) end,
  function(text) -- IIS
    return text:find("%%[uU]") and text:gsub("%%[uU](%x%x%x%x)", function(code) return utf8.char(tonumber(code, 16)) end)
  end,
  function(text) return text:find("//", 1, true) and text:find("/.", 1, true) and normal(text, true) end,
  function(text) return text:find(";", 1, true) and text:gsub(";[^/]*", "") end, -- Tomcat, Jetty
  function(text) return text:find("\\", 1, true) and text:gsub("\\", "/") end, -- IIS, Node
  function(text) return text:find("[\0?#]") and text:match("^[^\0?#]*") end, -- C strings; queries and fragments
  function(text) return text:find("%c") and text:gsub("%c", "") end, -- WHATWG, URL
  function(text) return text:match("^//+[^/]+(/.*)$") end, -- Node's URL: what follows `//` is a host
  function(text) return text:find("/(", 1, true) and text:gsub("/%(([^/]*)", after_session):gsub("^[^/]", "/%0") end,
  function(text) -- PHP, CGI, ASP.NET: a program takes what follows its name
    for ending, at in text:gmatch("%.(%w+)()") do
      if SCRIPTS[ending:lower()] and text:sub(at, at) == "/" then return text:sub(at) end
    end
  end,
  function(text) return text:find(":", 1, true) and text:gsub(":[^/]*", "") end, -- NTFS: streams
  function(text) return (text:find("[. ]/") or text:find("[. ]$")) and text:gsub("[^/]+", trimmed) end,
  function(text) return text:find("[\192-\252]") and shortened(text) end,
  function(text) return text:find("+", 1, true) and text:gsub("+", " ") end, -- forms
  function(text) -- characters that are read as ASCII: full width, best fit, case folding
    if not text:find("[\194-\244]") then return nil end
    text = text:gsub("[\194-\223][\128-\191]", FOLDED):gsub("[\224-\239][\128-\191][\128-\191]", FOLDED)
    return text:gsub("[\240-\244][\128-\191][\128-\191][\128-\191]", FOLDED)
  end,
  function(text) return #text > 1 and text:byte(-1) == 47 and text:sub(1, -2) end, -- Rails, Express, Spring
  function(text) -- Spring: any ending
    local from = last_part(text)
    local dot = text:find(".", from + 1, true)
    return dot and text:sub(from) ~= ".." and text:sub(1, dot - 1)
  end,
  function(text) -- Rails: the format
    local ending = text:sub(-8):reverse():match("^(%w+)%.")
    return ending and FORMATS[ending:reverse():lower()] and text:sub(1, -#ending - 2)
  end,
}
local LONGEST_READINGS = 8000 -- bytes of all of them, the path itself included

-- The same pattern with one group that captures, for HAProxy tells no group behind one that matched nothing.
local function capturing(text, wanted)
  local parts, at, group, class = {}, 1, 0, false
  while at <= #text do
    local char = text:sub(at, at)
    if char == "\\" then char = text:sub(at, at + 1)
    elseif class then class = char ~= "]"
    elseif char == "[" then class = true
    elseif char == "(" and text:sub(at + 1, at + 1) ~= "?" then
      group = group + 1
      if group ~= wanted then parts[#parts + 1], char, at = "(?:", "", at + 1 end
    end
    parts[#parts + 1], at = char, at + #char
  end
  return table.concat(parts)
end

-- A host's patterns, compiled once for each thread; nil if the map has changed in between.
local lists, listed_number = {}, 0
local MOST_LISTED = 5000

local function patterns_of(map, host)
  local text = map:lookup(host .. "/0")
  if not text then return {} end
  local digest = text:match("^%S+")
  if lists[digest] then return lists[digest] end
  local list, number = {}, 0
  while text do
    local version, count, place, pattern = text:match("^(%S+) (%S+) (%S+) (.*)$")
    if version ~= digest then return nil end
    local valid, whole = Regex.new(pattern, true)
    local one = {place = place, whole = assert(valid and whole), groups = {}}
    for group in place:gmatch("\\(%d)") do
      local known, compiled = Regex.new(capturing(pattern, tonumber(group)), true)
      one.groups[group] = assert(known and compiled)
    end
    number = number + 1
    list[number], list.count = one, tonumber(count)
    text = map:lookup(host .. "/" .. number)
  end
  if number ~= list.count then return nil end
  if listed_number + number > MOST_LISTED then lists, listed_number = {}, 0 end
  lists[digest], listed_number = list, listed_number + number
  return list
end

-- The place of the first pattern that matches, with the groups it names.
local function matched(scheme, host, path)
  local list, asked
  for _ = 1, 3 do list = list or patterns_of(PATTERNS[scheme], host) end
  asked = host .. path
  for _, one in ipairs(assert(list, "patterns change all the time")) do
    if one.whole:exec(asked) then
      return (one.place:gsub("\\(%d)", function(group)
        local regex = one.groups[group]
        local _, found = regex["match"](regex, asked) -- not Lua's own `match`
        return group == "0" and found[1] or found[2] or ""
      end))
    end
  end
end

-- Where a path of this host leads: a policy's name, or the whole place if it has none.
local function led_to(scheme, host, path)
  path = path:gsub("[^!-Z%[%]^-~]", UNFIT)
  local found = ROUTES[scheme]:lookup(host .. path .. "/\1")
  if found == "~" and #path > LONGEST_MATCHED then return nil end
  if found == "~" then found = matched(scheme, host, path) end
  return found and (found:match("^[^/]*/([^/]*)") or found)
end

local OPEN = members("open")

-- Whether a path of this host leads to no guards but these; `place` is where the request goes on if no rule is for it.
local function needs_no_more(scheme, host, path, own, place)
  local found = led_to(scheme, host, path)
  local policy = found and found:sub(1, 2) == "p-" and find(found)
  if not policy or not policy.careful then return found ~= nil and found == place end
  for guard in pairs(policy.careful) do
    if not own[guard] then return false end
  end
  return true
end

-- All that servers may make of a path, itself first; nil if that is more than `most` texts.
local function readings(path, most)
  local found, known, length, index = {path}, {[path] = true}, #path, 1
  local plain = not path:find("[^%l%d/_-]") and not path:find("//", 1, true)
  if plain and #path > 1 and path:byte(-1) == 47 then found[2] = path:sub(1, -2) end
  if not plain and length > LONGEST_READINGS then return nil end
  while not plain and found[index] do
    if has_short_name(found[index]) then return nil end
    for _, read in ipairs(READINGS) do
      local other = read(found[index])
      if other == false and read == normalized and normal(found[index]) == false then return nil end
      if other and not known[other] then
        known[other], found[#found + 1], length = true, other, length + #other
        if #found > most or length > LONGEST_READINGS then return nil end
      end
    end
    index = index + 1
  end
  return found
end

-- The same for the request's own path, which is read once for both `careful` and `policy`.
local function readings_of_request(txn, path, most)
  local known = txn:get_priv()
  if not known or known.path ~= path or known.most < most then
    known = {path = path, most = most, found = readings(path, most)}
    txn:set_priv(known)
  end
  return known.found and #known.found <= most and known.found or nil
end

-- Some paths of this host are guarded. However a server may read this one, it leads where there are no more guards than
-- this one has; what can be read in more ways than are looked at is refused.
local function is_clear(txn, scheme, most, own, place)
  local path, host = txn.f:path() or "/", txn:get_var("req.host") or "" -- no path is `OPTIONS *`
  if (txn.f:req_hdr("host") or ""):find("/", 1, true) then return false end
  local found = readings_of_request(txn, path, most)
  for _, text in ipairs(found or {}) do
    local rooted = text:byte(1) == 47
    if rooted and text ~= path and not needs_no_more(scheme, host, text, own, place) then return false end
    -- Some servers do not tell `/admin` from `/admin/`, which only an Exact path or a pattern does.
    if rooted and text:byte(-1) ~= 47 and not needs_no_more(scheme, host, text .. "/", own, place) then return false end
  end
  return found ~= nil
end

-- The same of a path that a route makes. Where it plainly leads is the route's wish, but not what else it can be read as:
-- `/x/(.*)` that becomes `/public/$1` is no way to `/admin`.
local function is_clear_made(txn, path, most, own)
  local host, found, slashed = txn:get_var("req.host") or "", readings(path, most), path .. "/"
  for _, text in ipairs(found or {}) do
    local wish = text == path or text == slashed or text .. "/" == path
    if not wish and text:byte(1) == 47 and not needs_no_more(txn:get_var("txn.scheme"), host, text, own) then
      return false
    end
  end
  return found ~= nil
end

local function refuse_unclear(txn)
  refuse(txn, 400, "this path can be read as another one; write it plainly")
end

-- Nobody but the auth service says something in its name, also not with other characters that pods read as `-`.
local function unvouched(txn, policy)
  local theirs = {}
  for _, name in ipairs(policy["auth-headers"] or {}) do theirs[(name:lower():gsub("%W", "-"))] = true end
  if not next(theirs) then return end
  for name in pairs(txn.http:req_get_headers()) do
    if theirs[(name:gsub("%W", "-"))] then txn.http:req_del_header(name) end
  end
end

-- HAProxy goes on after an error in here; `done` tells its rules that there was none.
local function guard(done, action)
  return function(txn)
    local policy = find(txn:get_var("txn.policy") or "")
    if not policy then return refuse(txn, 503, "the settings of this route are not known; try again in a moment") end
    action(txn, policy)
    txn:set_var(done, true)
  end
end

core.register_action("patterns", {"http-req"}, function(txn, scheme)
  local place = matched(scheme, txn:get_var("req.host"), txn:get_var("req.path"))
  if place then txn:set_var("txn.slot", place) end
  txn:set_var("txn.patterns_done", true)
end, 1)

-- A request that no rule of a host with guards is for goes on to other rules.
core.register_action("careful", {"http-req"}, function(txn, scheme)
  local place = txn:get_var("req.miss") or ""
  if not is_clear(txn, scheme, tonumber(place:match("%d+")) or 1, OPEN, place) then return refuse_unclear(txn) end
  txn:set_var("txn.careful_done", true)
end, 1)

core.register_action("policy", {"http-req"}, guard("txn.policy_done", function(txn, policy)
  local headers, method = txn.http:req_get_headers(), txn.f:method()
  local source = source_of(txn)
  local most = tonumber(policy["careful-readings"])
  local made = txn:get_var("txn.rewrite") or ""
  if policy.careful and not (is_clear(txn, txn:get_var("txn.scheme"), most, policy.careful)
    and (made == "" or is_clear_made(txn, made:match("^[^?]*"), most, policy.careful))) then return refuse_unclear(txn) end
  local doors, allowed = policy.auth or policy.users, policy.allow and contains(policy.allow, source)
  if (policy.deny and contains(policy.deny, source)) or (policy.allow and not allowed and not (policy.any and doors)) then
    return refuse(txn, 403, "this address may not enter")
  end
  if policy.client then check_client(txn, policy) end
  if policy.hsts then txn:set_var("txn.hsts", policy.hsts) end
  if policy["cors-origins"] then allow_origin(txn, policy, headers, method) end
  if policy.redirect then
    return redirect(txn, tonumber(policy["redirect-code"]), policy.redirect)
  end
  if policy["app-root"] and txn.f:path() == "/" then return answer(txn, 302, {location = policy["app-root"]}) end
  if policy.body and tonumber(first(headers, "content-length") or 0) > tonumber(policy.body) then
    return refuse(txn, 413, "the body is larger than " .. policy.body .. " bytes")
  end
  if policy.errors then txn:set_var("txn.format", first(headers, "accept")) end
  limit(txn, policy, source)
  choose(txn, policy, headers)
  if policy.hash then txn:set_var("txn.hash", HASHED[policy.hash](txn)) end
  for _, name in ipairs{"timeout", "tunnel"} do
    if policy[name] then txn:set_var("txn." .. name, tonumber(policy[name])) end
  end
  if policy.mirror and copies < MOST_COPIES then
    txn:set_var("txn.mirror", true)
    if policy["mirror-body"] then txn:set_var("txn.mirror_body", true) end
  end
  if policy.headers or policy["cookie-domain"] or policy["cookie-path"] or policy.location
    or txn:get_var("txn.fallback") then txn:set_var("txn.respond", true) end
  if policy["no-retry"] then txn:set_var("txn.no_retry", true) end
  if doors and not (policy.any and allowed) then txn:set_var("txn.auth", true) else unvouched(txn, policy) end
  if policy.host then txn.http:req_set_header("host", policy.host) end
  if policy.prefix then txn.http:req_set_header("x-forwarded-prefix", policy.prefix) end
  if made ~= "" then rewrite(txn, made) end
end))

-- Who was let in by a password is remembered by its digest, until the list of users is another one.
local let_in, remembered = {}, 0

-- 204 for a right one, 401 for a wrong one or none; anything else: it can not be known.
local function asked_of_doorman(txn, policy)
  local version = versions:lookup(policy.users)
  if not version then return 0 end
  local given = first(txn.http:req_get_headers(), "authorization")
  if not given then return 401 end
  local key = version .. txn.c:digest(given, "sha256")
  if let_in[key] then return 204 end
  local done, response = pcall(function()
    return core.httpclient():get{
      url = "http://doorman/" .. policy.users .. "/" .. version, dst = "unix@" .. os.getenv("VRATA_DOORMAN"),
      headers = {authorization = {given}, host = {"doorman"}}, timeout = AUTH_TIMEOUT_MS,
    }
  end)
  local status = done and response and response.status or 0
  if status == 204 then
    if remembered >= MOST_KNOWN then let_in, remembered = {}, 0 end
    let_in[key], remembered = true, remembered + 1
  end
  return status
end

-- Whether the client needs nobody else's word.
local function let_in_by_password(txn, policy)
  local status = asked_of_doorman(txn, policy)
  if status == 204 then return policy.any end
  if policy.any and policy.auth then return false end
  if status ~= 401 then return refuse(txn, 503, "passwords can not be checked; try again in a moment") end
  answer(txn, 401, {["www-authenticate"] = 'Basic realm="' .. policy.realm .. '", charset="UTF-8"'})
end

-- Ask what a tenant's URL names. The frontend `outbound` judges the address that the name has at this moment.
local function ask_outside(method, asked)
  local scheme, authority, rest = asked.url:match("^(%w+)://([^/]*)(.*)$")
  local name, port = authority:match("^[^:]*"), authority:match(":(%d+)$")
  asked.headers["x-vrata-name"], asked.headers["x-vrata-tls"] = {name}, {scheme == "https" and "1" or "0"}
  asked.headers["x-vrata-port"] = {port or (scheme == "https" and "443" or "80")}
  asked.headers.host = asked.headers.host or {authority}
  asked.url, asked.dst = "http://" .. authority .. rest, "unix@" .. os.getenv("VRATA_DIRECTORY") .. "/outbound.sock"
  -- HAProxy's client has five methods, and would send no length with two of them: `outbound` puts in the one that is meant.
  asked.headers["x-vrata-method"] = {method:upper()}
  local client = core.httpclient()
  local ask = method:upper() == "HEAD" and client.head or asked.body and client.put or client.get
  return pcall(ask, client, asked)
end

-- Of one connection or of a message's framing (RFC 9110, 7.6.1 and 10.1.1). An auth service that receives `Expect` answers
-- 100 first, which HAProxy's own client takes for the answer.
local HOP_BY_HOP = members("connection,content-length,expect,keep-alive,proxy-connection,te,trailer,transfer-encoding,upgrade")

-- What `Connection` may name without effect: the connection's own, what says where a request goes and ends.
local KEPT = members("close,keep-alive,upgrade,host,content-length,transfer-encoding")

-- Headers that `Connection` names are for this hop only (RFC 9110, 7.6.1): nobody behind it may see what others do not. Of
-- itself only what a WebSocket needs is left.
core.register_action("one_hop", {"http-req"}, function(txn)
  local headers, named_here = txn.http:req_get_headers(), {}
  for _, text in ipairs(all(headers, "connection")) do
    for name in text:lower():gmatch("[^, \t]+") do named_here[name] = not KEPT[name] end
  end
  for name in pairs(headers) do
    if named_here[name] then txn.http:req_del_header(name) end
  end
  txn.http:req_del_header("connection")
  if named_here.upgrade ~= nil and headers.upgrade then txn.http:req_add_header("connection", "Upgrade") end
end)

-- Headers as HAProxy's own client sends them on.
local function end_to_end(txn)
  local given, headers = txn.http:req_get_headers(), {}
  for name in pairs(given) do
    if not HOP_BY_HOP[name] and name ~= "host" then headers[name] = all(given, name) end
  end
  return headers
end

-- Bytes and number of headers as they are sent, with those that `outbound` is told besides.
local function size_of(headers, url)
  local bytes, count = #url + 500, 6
  for name, values in pairs(headers) do
    for _, value in ipairs(values) do bytes, count = bytes + #name + #value + 4, count + 1 end
  end
  return bytes, count
end

-- A copy of the request, whose answer nobody waits for (ingress-nginx, «Mirror»).
core.register_action("mirror", {"http-req"}, function(txn)
  local policy = find(txn:get_var("txn.policy") or "") or {}
  local method, url, headers = txn.f:method():lower(), expanded(txn, policy.mirror), end_to_end(txn)
  if not url then return end
  local length = tonumber(first(txn.http:req_get_headers(), "content-length") or 0)
  local body = policy["mirror-body"] and txn.f:req_body() or nil
  if body and #body < length then body = nil end
  headers.host = {policy["mirror-host"] or url:match("^%w+://([^/]+)")}
  core.register_task(function()
    copies = copies + 1
    ask_outside(method, {url = url, headers = headers, body = body, timeout = COPY_TIMEOUT_MS})
    copies = copies - 1
  end)
end)

-- Another service says who may enter (ingress-nginx, «External Authentication»): 2xx lets in, everything else does not.
core.register_action("authenticate", {"http-req"}, guard("txn.auth_done", function(txn, policy)
  if policy.users and let_in_by_password(txn, policy) then return unvouched(txn, policy) end
  if not policy.auth then return end
  if policy["auth-unready"] then return refuse(txn, 503, "what to tell the auth service is not known") end
  local headers = end_to_end(txn)
  local here = txn:get_var("txn.scheme") .. "://" .. txn:get_var("txn.host") .. txn:get_var("txn.uri")
  local url, back = expanded(txn, policy.auth), expanded(txn, policy["auth-redirect"] or "$request_uri")
  if not url or not back then return too_long(txn) end
  headers["x-original-url"] = {here}
  headers["x-original-method"] = {txn.f:method()}
  headers["x-auth-request-redirect"] = {back}
  local length = 0
  for name, value in named(policy["auth-set"]) do
    local text = expanded(txn, value)
    length = length + #(text or "")
    if not text or length > LONGEST then return too_long(txn) end
    headers[name:lower()] = {text}
  end
  local bytes, count = size_of(headers, url)
  if #url + #here + #back > LONGEST then return too_long(txn) end
  if bytes > LONGEST or count > MOST_HEADERS then
    return refuse(txn, 431, "these headers and this address are too large to be told to the auth service; send less")
  end
  local done, response = ask_outside(policy["auth-method"] or "GET", {
    url = url, headers = headers, timeout = AUTH_TIMEOUT_MS,
  })
  local status = done and response and response.status or 0
  local cookies = all(done and response and response.headers, "set-cookie")
  if status >= 200 and status < 300 then
    if #cookies > 0 then
      txn:set_var("txn.auth_cookies", table.concat(cookies, "\n"))
      txn:set_var("txn.respond", true)
    end
    unvouched(txn, policy)
    for _, name in ipairs(policy["auth-headers"] or {}) do
      local values = response.headers and response.headers[name:lower()]
      if values then txn.http:req_set_header(name, values[0]) end
    end
  elseif status == 401 and policy["auth-signin"] then
    local signin = expanded(txn, policy["auth-signin"])
    if not signin then return too_long(txn) end
    local param, query = (policy["auth-param"] or "rd") .. "=", signin:match("%?(.*)")
    if not ("&" .. (query or "")):find("&" .. param, 1, true) then
      signin = signin .. (query and "&" or "?") .. param .. escaped(here)
    end
    if #signin > LONGEST then return too_long(txn) end
    answer(txn, 302, {location = signin, ["set-cookie"] = cookies})
  elseif status == 401 or status == 403 then
    local asked = all(response.headers, "www-authenticate")
    answer(txn, status, {["www-authenticate"] = asked, ["set-cookie"] = policy["auth-cookie-always"] and cookies})
  else
    refuse(txn, 503, "who may enter can not be asked; try again in a moment")
  end
end))

-- The auth service's cookies are passed on with these; with any status if that is asked for.
local SHOWN = members("200,201,204,206,301,302,303,304,307,308")

local function add_cookies(txn, policy, status, add)
  if not policy["auth-cookie-always"] and not SHOWN[tostring(status)] then return end
  for value in (txn:get_var("txn.auth_cookies") or ""):gmatch("[^\n]+") do add("set-cookie", value) end
end

-- Another Service's answer in place of a pod's; none if that can not be had.
local function answer_instead(txn, policy, status)
  local fallback = txn:get_var("txn.fallback")
  if not fallback or not (policy.errors or {})[status] or txn.c:nbsrv(fallback) == 0 then return end
  local headers = {["x-slot"] = {fallback}, host = {txn:get_var("txn.host")}}
  for name, value in pairs(of_error(txn, policy, status, txn:get_var("txn.slot"))) do headers[name] = {value} end
  local done, found = pcall(function()
    return core.httpclient():get{
      url = "http://errors/", dst = "unix@" .. os.getenv("VRATA_ERRORS"), headers = headers, timeout = ERROR_TIMEOUT_MS,
    }
  end)
  if not done or not found or found.status == 0 then return end
  local reply, length = txn:reply{status = found.status, body = found.body}, #found.body
  for name, values in pairs(found.headers) do
    for index = 0, HOP_BY_HOP[name] and -1 or #values do
      reply:add_header(name, values[index])
      length = length + #name + #values[index]
    end
  end
  if length > LONGEST then return end
  for name, value in named(policy.headers) do reply:add_header(name, value) end
  add_cookies(txn, policy, found.status, function(name, value) reply:add_header(name, value) end)
  txn:done(reply)
end

-- nginx: proxy_cookie_domain is for a domain as a whole, proxy_cookie_path for what a path begins with.
local function rewrite_cookies(txn, policy)
  local domain, path = policy["cookie-domain"], policy["cookie-path"]
  local cookies = (domain or path) and all(txn.http:res_get_headers(), "set-cookie") or {}
  if #cookies == 0 then return end
  local function other(start, name, value)
    name = name:lower()
    if domain and name == "domain" then
      local text, wanted = value:lower():match("^%.?(.*)$"), domain[1]
      if text:sub(1, #wanted) == wanted and text:find("^%s*$", #wanted + 1) then return start .. domain[2] end
    elseif path and name == "path" and value:sub(1, #path[1]) == path[1] then
      return start .. path[2] .. value:sub(#path[1] + 1)
    end
  end
  txn.http:res_del_header("set-cookie")
  for _, one in ipairs(cookies) do
    txn.http:res_add_header("set-cookie", (one:gsub("(;%s*([dDpP]%a+)%s*=%s*)([^;]*)", other)))
  end
end

-- nginx, proxy_redirect.
local function rewrite_location(txn, policy)
  local found = policy.location and first(txn.http:res_get_headers(), "location")
  if not found then return end
  local from, to = expanded(txn, policy.location[1]), expanded(txn, policy.location[2])
  if from and to and found:sub(1, #from) == from then txn.http:res_set_header("location", to .. found:sub(#from + 1)) end
end

core.register_action("respond", {"http-res"}, function(txn)
  local policy = find(txn:get_var("txn.policy") or "") or {}
  answer_instead(txn, policy, tostring(txn.f:status()))
  rewrite_cookies(txn, policy)
  rewrite_location(txn, policy)
  for name, value in named(policy.headers) do txn.http:res_set_header(name, value) end
  add_cookies(txn, policy, txn.f:status(), function(name, value) txn.http:res_add_header(name, value) end)
end)
