-- What annotations ask of a route, done in HAProxy: `policy` for each request whose route has one, `authenticate` after it.
-- The policy is a row of the map `policies` (vrata.ingress.policy); rows never change, so each is read once a thread.
-- Whatever cannot be read or decided refuses the request: an open door is worse than a closed one.
local policies = Map.new(os.getenv("VRATA_POLICIES"), Map._str)
local versions = Map.new(os.getenv("VRATA_USERS"), Map._str)
local owners = Map.new(os.getenv("VRATA_OWNERS"), Map._str)
local known, number = {}, 0
local MOST_KNOWN = 20000
local AUTH_TIMEOUT_MS = 5000
local ERROR_TIMEOUT_MS, LONGEST_ERROR = 5000, 15000 -- bytes: it is sent from one buffer
local MOST_COPIES, COPY_TIMEOUT_MS = 50, 5000 -- of requests, under way in this thread
local copies = 0

local function decoded(text)
  return (text:gsub("%%(%x%x)", function(code) return string.char(tonumber(code, 16)) end))
end

local function listed(text)
  local items = {}
  for item in text:gmatch("[^,]+") do items[#items + 1] = decoded(item) end
  return items
end

local REPLICAS = listed(os.getenv("VRATA_REPLICAS"))
local REPLICA = table.remove(REPLICAS, 1) -- the others are left

local function networks(text)
  local items = listed(text)
  for index, item in ipairs(items) do items[index] = core.parse_addr(item) end
  return items
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
  headers = listed, ["auth-set"] = listed, errors = members,
  ["canary-pattern"] = pattern, ["client-name"] = whole,
  ["cookie-domain"] = listed, ["cookie-path"] = listed, location = listed,
  allow = networks, deny = networks, ["limit-exempt"] = networks, ["cors-origins"] = listed, ["auth-headers"] = listed,
}

local function find(name)
  local policy = known[name]
  if policy or name == "p-0" then return policy or {} end
  local text = policies:lookup(name)
  if not text then return nil end
  policy = {}
  for key, value in text:gmatch("(%S-)=(%S*)") do policy[key] = (READ[key] or decoded)(value) end
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

local function contains(items, address)
  for _, item in ipairs(items) do
    if core.match_addr(item, address) then return true end
  end
  return false
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
    if item then return item:match("^(.-):(.*)$") end
  end
end

local function cookie(headers, wanted)
  for index = 0, #(headers["cookie"] or {}) do
    for name, value in ((headers["cookie"] or {})[index] or ""):gmatch("([^=;%s]+)=([^;]*)") do
      if name == wanted then return value end
    end
  end
end

local function escaped(text)
  return (text:gsub("[^%w%-._~]", function(char) return string.format("%%%02X", char:byte()) end))
end

local function expanded(txn, template)
  local uri = txn:get_var("txn.uri")
  local values = {
    host = txn:get_var("txn.host"), scheme = txn:get_var("txn.scheme"), request_uri = uri, uri = txn.f:path(),
    args = txn.f:query() or "",
    escaped_request_uri = escaped(uri),
  }
  return (template:gsub("%$([a-z_]+)", values))
end

local function origin_allowed(origins, origin)
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
    if header == value or (matched and matched:exec(header)) then return true end
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
  local namespace, name = policy["errors-of"]:match("^(.-)/(.*)$")
  local service, port = (owners:lookup(slot) or ""):match("/(.-):([^;]*)")
  return {
    ["x-code"] = status, ["x-format"] = txn:get_var("txn.format") or "", ["x-original-uri"] = txn:get_var("txn.uri"),
    ["x-namespace"] = namespace, ["x-ingress-name"] = name, ["x-service-name"] = service, ["x-service-port"] = port,
  }
end

-- A client that has a server's cookie stays with it, on whichever side of a canary that is.
local function choose(txn, policy, headers)
  local said = policy.cookie and cookie(headers, policy.cookie) or ""
  local server, side = said:match("^(s%-[%w-]+)(~?)$")
  local main, canary, fallback = txn:get_var("txn.slot"):match("^([^+|]+)%+?([^|]*)|?(.*)$")
  local second = false
  if canary ~= "" then
    if server then second = side ~= "" else second = is_canary(policy, headers) end
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
  if policy.cookie then
    if server then txn:set_var("txn.server", server) end
    txn:set_var("txn.cookie", policy.cookie)
    txn:set_var("txn.cookie_attributes", (second and "~" or "") .. policy["cookie-attributes"])
  end
end

local HASHED = {
  ["$remote_addr"] = function(txn) return txn.f:src() end,
  ["$binary_remote_addr"] = function(txn) return txn.f:src() end,
  ["$request_uri"] = function(txn) return txn:get_var("txn.uri") end,
  ["$uri"] = function(txn) return txn.f:path() end,
  ["$host"] = function(txn) return txn:get_var("txn.host") end,
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
local function check_client(txn, policy, headers)
  local host = (first(headers, "host") or ""):lower():gsub(":%d+$", "")
  local used = txn.f:ssl_c_used()
  used = used == true or used == 1
  local wrong = used and txn.f:ssl_c_verify() or 0
  if txn:get_var("txn.scheme") == "https"
    and (txn:get_var("sess.name") ~= host or txn:get_var("sess.authority") ~= policy["client-authority"]) then
    return refuse(txn, 421, "this connection was made for another name")
  end
  local missing, invalid = policy.client == "on" and not used, policy.client ~= "optional_no_ca" and wrong ~= 0
  if policy["client-page"] and (missing or invalid) then
    return answer(txn, 302, {location = expanded(txn, policy["client-page"])})
  end
  if missing then return refuse(txn, 400, "no required certificate was sent") end
  if invalid then return refuse(txn, 400, "the certificate is not valid here") end
  local name = used and txn.f:ssl_c_s_dn("CN")
  if policy["client-name"] and not (name and policy["client-name"]:exec(name)) then
    return refuse(txn, 403, "the certificate is not for this name")
  end
  txn.http:req_set_header("ssl-client-verify", not used and "NONE" or wrong == 0 and "SUCCESS" or "FAILED:" .. wrong)
  if not used then return end
  txn.http:req_set_header("ssl-client-subject-dn", txn.f:ssl_c_s_dn("", 0, "rfc2253"))
  txn.http:req_set_header("ssl-client-issuer-dn", txn.f:ssl_c_i_dn("", 0, "rfc2253"))
  if policy["client-pass"] then
    local lines = txn.c:base64(txn.f:ssl_c_der()):gsub(("."):rep(64), "%0\n")
    local pem = "-----BEGIN CERTIFICATE-----\n" .. lines .. "\n-----END CERTIFICATE-----\n"
    txn.http:req_set_header("ssl-client-cert", escaped(pem))
  end
end

-- The path as nginx, and many a pod, reads it: decoded, without `//`, `.` and `..`; nil for one that leads out of the root.
local function plain(path)
  local parts, text = {}, decoded(path)
  for part in text:gmatch("[^/]+") do
    if part == ".." then
      if #parts == 0 then return nil end
      parts[#parts] = nil
    elseif part ~= "." then
      parts[#parts + 1] = part
    end
  end
  local ends = #parts > 0 and text:match("/%.?%.?$") and "/" or ""
  return "/" .. table.concat(parts, "/") .. ends
end

-- Some paths of this host are guarded. HAProxy's rules look up the other reading, and compare.
local function be_careful(txn)
  local path = txn.f:path() or "/" -- none is `OPTIONS *`
  local other = plain(path)
  if not other or (txn:get_var("txn.host") or ""):find("/", 1, true) then
    return refuse(txn, 400, "this address can be read in two ways")
  end
  if other ~= path then txn:set_var("req.other", other) end
end

-- Nobody but the auth service says something in its name, also not with `_`, which many a pod reads as `-`.
local function unvouched(txn, policy)
  local theirs = {}
  for _, name in ipairs(policy["auth-headers"] or {}) do theirs[(name:lower():gsub("_", "-"))] = true end
  if not next(theirs) then return end
  for name in pairs(txn.http:req_get_headers()) do
    if theirs[(name:gsub("_", "-"))] then txn.http:req_del_header(name) end
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

core.register_action("policy", {"http-req"}, guard("txn.policy_done", function(txn, policy)
  local headers, method = txn.http:req_get_headers(), txn.f:method()
  local source = core.parse_addr(txn.f:src())
  if policy.careful then be_careful(txn) end
  local doors, allowed = policy.auth or policy.users, policy.allow and contains(policy.allow, source)
  if (policy.deny and contains(policy.deny, source)) or (policy.allow and not allowed and not (policy.any and doors)) then
    return refuse(txn, 403, "this address may not enter")
  end
  if policy.client then check_client(txn, policy, headers) end
  if policy.hsts then txn:set_var("txn.hsts", policy.hsts) end
  if policy["cors-origins"] then allow_origin(txn, policy, headers, method) end
  if policy.redirect then
    return answer(txn, tonumber(policy["redirect-code"]), {location = expanded(txn, policy.redirect)})
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
  local path = txn:get_var("txn.rewrite")
  if path and path ~= "" then rewrite(txn, path) end
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

local HOP_BY_HOP = {["content-length"] = true, ["transfer-encoding"] = true, connection = true}

-- Headers as HAProxy's own client sends them on.
local function end_to_end(txn)
  local given, headers = txn.http:req_get_headers(), {}
  for name in pairs(given) do
    if not HOP_BY_HOP[name] and name ~= "host" then headers[name] = all(given, name) end
  end
  return headers
end

-- A copy of the request, whose answer nobody waits for (ingress-nginx, «Mirror»).
core.register_action("mirror", {"http-req"}, function(txn)
  local policy = find(txn:get_var("txn.policy") or "") or {}
  local method, url, headers = txn.f:method():lower(), expanded(txn, policy.mirror), end_to_end(txn)
  local length = tonumber(first(txn.http:req_get_headers(), "content-length") or 0)
  local body = policy["mirror-body"] and txn.f:req_body() or nil
  if body and #body < length then body = nil end
  headers.host = {policy["mirror-host"] or url:match("^%w+://([^/]+)")}
  core.register_task(function()
    copies = copies + 1
    local client = core.httpclient()
    local ask = client[method]
    if ask then pcall(ask, client, {url = url, headers = headers, body = body, timeout = COPY_TIMEOUT_MS}) end
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
  headers["x-original-url"] = {here}
  headers["x-original-method"] = {txn.f:method()}
  headers["x-auth-request-redirect"] = {expanded(txn, policy["auth-redirect"] or "$request_uri")}
  for name, value in named(policy["auth-set"]) do headers[name:lower()] = {expanded(txn, value)} end
  local client = core.httpclient()
  local ask = client[(policy["auth-method"] or "GET"):lower()]
  local done, response = pcall(ask, client, {
    url = expanded(txn, policy.auth), headers = headers, timeout = AUTH_TIMEOUT_MS,
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
    local back, query = (policy["auth-param"] or "rd") .. "=", signin:match("%?(.*)")
    if not ("&" .. (query or "")):find("&" .. back, 1, true) then
      signin = signin .. (query and "&" or "?") .. back .. escaped(here)
    end
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
  if length > LONGEST_ERROR then return end
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
    if domain and name == "domain" and value:lower():match("^%.?(.-)%s*$") == domain[1] then return start .. domain[2] end
    if path and name == "path" and value:sub(1, #path[1]) == path[1] then
      return start .. path[2] .. value:sub(#path[1] + 1)
    end
  end
  txn.http:res_del_header("set-cookie")
  for _, one in ipairs(cookies) do txn.http:res_add_header("set-cookie", (one:gsub("(;%s*(%a+)%s*=%s*)([^;]*)", other))) end
end

-- nginx, proxy_redirect.
local function rewrite_location(txn, policy)
  local found = policy.location and first(txn.http:res_get_headers(), "location")
  if not found then return end
  local from, to = expanded(txn, policy.location[1]), expanded(txn, policy.location[2])
  if found:sub(1, #from) == from then txn.http:res_set_header("location", to .. found:sub(#from + 1)) end
end

core.register_action("respond", {"http-res"}, function(txn)
  local policy = find(txn:get_var("txn.policy") or "") or {}
  answer_instead(txn, policy, tostring(txn.f:status()))
  rewrite_cookies(txn, policy)
  rewrite_location(txn, policy)
  for name, value in named(policy.headers) do txn.http:res_set_header(name, value) end
  add_cookies(txn, policy, txn.f:status(), function(name, value) txn.http:res_add_header(name, value) end)
end)
