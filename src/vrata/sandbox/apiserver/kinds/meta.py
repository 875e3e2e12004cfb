"""Types of apimachinery's meta/v1 and what many kinds share."""

from typing import Final

from vrata.sandbox.apiserver.schema import Schema, parse

TYPES: Final[dict[str, Schema]] = parse(
    """
OwnerReference atomic
  apiVersion!        string
  kind!              string
  name!              string
  uid!               string
  controller         bool
  blockOwnerDeletion bool
ManagedFieldsEntry
  manager     string
  operation   string
  apiVersion  string
  time        time
  fieldsType  string
  fieldsV1    any
  subresource string
ObjectMeta
  name                       string
  generateName               string
  namespace                  string
  selfLink                   string
  uid                        string
  resourceVersion            string
  generation                 long
  creationTimestamp          time
  deletionTimestamp          time
  deletionGracePeriodSeconds long
  labels                     {string}
  annotations                {string}
  ownerReferences            [OwnerReference] map=uid merge=uid
  finalizers                 [string] set merge
  managedFields              [ManagedFieldsEntry]
LabelSelectorRequirement
  key!      string
  operator! string
  values    [string]
LabelSelector atomic
  matchLabels      {string}
  matchExpressions [LabelSelectorRequirement]
Condition
  type!              string
  status!            string
  observedGeneration long
  lastTransitionTime time
  reason             string
  message            string
ObjectReference atomic
  kind            string
  namespace       string
  name            string
  uid             string
  apiVersion      string
  resourceVersion string
  fieldPath       string
LocalObjectReference atomic
  name string
TypedLocalObjectReference atomic
  apiGroup string
  kind!    string
  name!    string
Preconditions
  uid             string
  resourceVersion string
DeleteOptions
  apiVersion         string
  kind               string
  gracePeriodSeconds long
  preconditions      Preconditions
  orphanDependents   bool
  propagationPolicy  string
  dryRun             [string]
Eviction
  apiVersion    string
  kind          string
  metadata      ObjectMeta
  deleteOptions DeleteOptions
Binding
  apiVersion string
  kind       string
  metadata   ObjectMeta
  target     ObjectReference
""",
    {},
)
