-- The health of a WazzupChannel or WazzupAccount in Argo CD.
local health = {
  status = "Progressing",
  message = "The operator has not processed this version of the object yet.",
}
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready = conditions.Ready
if ready == nil then
  return health
end

health.message = ready.message
if ready.status == "True" then
  health.status = "Healthy"
elseif ready.reason == "Paused" then
  health.status = "Suspended"
elseif conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  health.status = "Degraded"
end
return health
