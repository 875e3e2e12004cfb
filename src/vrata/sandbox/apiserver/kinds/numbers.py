"""Field numbers of Kubernetes' protobuf messages, for the types of the schemas.

`2=image` is a field, `2=image?` one whose zero value means absent; `1{1=exec,2=httpGet}` is a nested message whose
fields are the outer type's own in JSON.
"""

from typing import Final

NUMBERS: Final = """
OwnerReference 1=kind 3=name 4=uid 5=apiVersion 6=controller 7=blockOwnerDeletion
ManagedFieldsEntry 1=manager? 2=operation? 3=apiVersion? 4=time 6=fieldsType? 7=fieldsV1 8=subresource?
ObjectMeta 1=name? 2=generateName? 3=namespace? 4=selfLink? 5=uid? 6=resourceVersion? 7=generation?
  8=creationTimestamp 9=deletionTimestamp 10=deletionGracePeriodSeconds 11=labels 12=annotations
  13=ownerReferences 14=finalizers 17=managedFields
LabelSelectorRequirement 1=key 2=operator 3=values
LabelSelector 1=matchLabels 2=matchExpressions
Condition 1=type 2=status 3=observedGeneration? 4=lastTransitionTime 5=reason 6=message
ObjectReference 1=kind? 2=namespace? 3=name? 4=uid? 5=apiVersion? 6=resourceVersion? 7=fieldPath?
LocalObjectReference 1=name?
TypedLocalObjectReference 1=apiGroup 2=kind 3=name
Preconditions 1=uid 2=resourceVersion
DeleteOptions 1=gracePeriodSeconds 2=preconditions 3=orphanDependents 4=propagationPolicy 5=dryRun
Eviction 1=metadata 2=deleteOptions
Binding 1=metadata 2=target
ObjectFieldSelector 1=apiVersion? 2=fieldPath
ResourceFieldSelector 1=containerName? 2=resource 3=divisor
KeySelector 1{1=name?} 2=key 3=optional
EnvVarSource 1=fieldRef 2=resourceFieldRef 3=configMapKeyRef 4=secretKeyRef 5=fileKeyRef
EnvVar 1=name 2=value? 3=valueFrom
EnvSource 1{1=name?} 2=optional
EnvFromSource 1=prefix? 2=configMapRef 3=secretRef
ContainerPort 1=name? 2=hostPort? 3=containerPort 4=protocol? 5=hostIP?
ResourceClaim 1=name 2=request?
ResourceRequirements 1=limits 2=requests 3=claims
VolumeMount 1=name 2=readOnly? 3=mountPath 4=subPath? 5=mountPropagation 6=subPathExpr? 7=recursiveReadOnly
VolumeDevice 1=name 2=devicePath
ExecAction 1=command
HTTPHeader 1=name 2=value
HTTPGetAction 1=path? 2=port 3=host? 4=scheme? 5=httpHeaders
TCPSocketAction 1=port 2=host?
GRPCAction 1=port 2=service
SleepAction 1=seconds
Probe 1{1=exec,2=httpGet,3=tcpSocket,4=grpc} 2=initialDelaySeconds? 3=timeoutSeconds? 4=periodSeconds?
  5=successThreshold? 6=failureThreshold? 7=terminationGracePeriodSeconds
LifecycleHandler 1=exec 2=httpGet 3=tcpSocket 4=sleep
Lifecycle 1=postStart 2=preStop 3=stopSignal
Capabilities 1=add 2=drop
SecurityContext 1=capabilities 2=privileged 3=seLinuxOptions 4=runAsUser 5=runAsNonRoot 6=readOnlyRootFilesystem
  7=allowPrivilegeEscalation 8=runAsGroup 9=procMount 10=windowsOptions 11=seccompProfile 12=appArmorProfile
Container 1=name 2=image? 3=command 4=args 5=workingDir? 6=ports 7=env 8=resources 9=volumeMounts
  10=livenessProbe 11=readinessProbe 12=lifecycle 13=terminationMessagePath? 14=imagePullPolicy?
  15=securityContext 16=stdin? 17=stdinOnce? 18=tty? 19=envFrom 20=terminationMessagePolicy? 21=volumeDevices
  22=startupProbe 23=resizePolicy 24=restartPolicy 25=restartPolicyRules
KeyToPath 1=key 2=path 3=mode
SecretVolumeSource 1=secretName? 2=items 3=defaultMode 4=optional
ConfigMapVolumeSource 1{1=name?} 2=items 3=defaultMode 4=optional
HostPathVolumeSource 1=path 2=type
EmptyDirVolumeSource 1=medium? 2=sizeLimit
Volume 1=name
  2{1=hostPath,2=emptyDir,6=secret,7=nfs,8=iscsi,10=persistentVolumeClaim,16=downwardAPI,19=configMap,26=projected,28=csi,29=ephemeral,30=image}
Toleration 1=key? 2=operator? 3=value? 4=effect? 5=tolerationSeconds
HostAlias 1=ip 2=hostnames
PodSecurityContext 1=seLinuxOptions 2=runAsUser 3=runAsNonRoot 4=supplementalGroups 5=fsGroup 6=runAsGroup
  7=sysctls 8=windowsOptions 9=fsGroupChangePolicy 10=seccompProfile 11=appArmorProfile
  12=supplementalGroupsPolicy 13=seLinuxChangePolicy
TopologySpreadConstraint 1=maxSkew 2=topologyKey 3=whenUnsatisfiable 4=labelSelector 5=minDomains
  6=nodeAffinityPolicy 7=nodeTaintsPolicy 8=matchLabelKeys
PodReadinessGate 1=conditionType
PodSpec 1=volumes 2=containers 3=restartPolicy? 4=terminationGracePeriodSeconds 5=activeDeadlineSeconds
  6=dnsPolicy? 7=nodeSelector 8=serviceAccountName? 9=serviceAccount? 10=nodeName? 11=hostNetwork? 12=hostPID?
  13=hostIPC? 14=securityContext 15=imagePullSecrets 16=hostname? 17=subdomain? 18=affinity 19=schedulerName?
  20=initContainers 21=automountServiceAccountToken 22=tolerations 23=hostAliases 24=priorityClassName?
  25=priority 26=dnsConfig 27=shareProcessNamespace 28=readinessGates 29=runtimeClassName 30=enableServiceLinks
  31=preemptionPolicy 32=overhead 33=topologySpreadConstraints 34=ephemeralContainers 35=setHostnameAsFQDN 36=os
  37=hostUsers 38=schedulingGates 39=resourceClaims 40=resources 41=hostnameOverride
PodTemplateSpec 1=metadata 2=spec
PodCondition 1=type 2=status 3=lastProbeTime 4=lastTransitionTime 5=reason? 6=message? 7=observedGeneration?
ContainerState 1=waiting 2=running 3=terminated
ContainerStatus 1=name 2=state 3=lastState 4=ready 5=restartCount 6=image 7=imageID 8=containerID? 9=started
  10=allocatedResources 11=resources 12=volumeMounts 13=user 14=allocatedResourcesStatus 15=stopSignal
PodIP 1=ip
HostIP 1=ip
PodStatus 1=phase? 2=conditions 3=message? 4=reason? 5=hostIP? 6=podIP? 7=startTime 8=containerStatuses
  9=qosClass? 10=initContainerStatuses 11=nominatedNodeName? 12=podIPs 13=ephemeralContainerStatuses 14=resize?
  15=resourceClaimStatuses 16=hostIPs 17=observedGeneration?
Pod 1=metadata 2=spec 3=status
NamespaceSpec 1=finalizers
NamespaceStatus 1=phase? 2=conditions
Namespace 1=metadata 2=spec 3=status
Taint 1=key 2=value? 3=effect 4=timeAdded
NodeSpec 1=podCIDR? 2=externalID? 3=providerID? 4=unschedulable? 5=taints 6=configSource 7=podCIDRs
NodeCondition 1=type 2=status 3=lastHeartbeatTime 4=lastTransitionTime 5=reason? 6=message?
NodeAddress 1=type 2=address
DaemonEndpoint 1=Port
NodeDaemonEndpoints 1=kubeletEndpoint
NodeSystemInfo 1=machineID 2=systemUUID 3=bootID 4=kernelVersion 5=osImage 6=containerRuntimeVersion
  7=kubeletVersion 8=kubeProxyVersion 9=operatingSystem 10=architecture 11=swap
NodeStatus 1=capacity 2=allocatable 3=phase? 4=conditions 5=addresses 6=daemonEndpoints 7=nodeInfo 8=images
  9=volumesInUse 10=volumesAttached 11=config 12=runtimeHandlers 13=features 14=declaredFeatures
Node 1=metadata 2=spec 3=status
ServicePort 1=name? 2=protocol? 3=port 4=targetPort 5=nodePort? 6=appProtocol
ClientIPConfig 1=timeoutSeconds
SessionAffinityConfig 1=clientIP
ServiceSpec 1=ports 2=selector 3=clusterIP? 4=type? 5=externalIPs 7=sessionAffinity? 8=loadBalancerIP?
  9=loadBalancerSourceRanges 10=externalName? 11=externalTrafficPolicy? 12=healthCheckNodePort?
  13=publishNotReadyAddresses? 14=sessionAffinityConfig 17=ipFamilyPolicy 18=clusterIPs 19=ipFamilies
  20=allocateLoadBalancerNodePorts 21=loadBalancerClass 22=internalTrafficPolicy 23=trafficDistribution
PortStatus 1=port 2=protocol 3=error
LoadBalancerIngress 1=ip? 2=hostname? 3=ipMode 4=ports
LoadBalancerStatus 1=ingress
ServiceStatus 1=loadBalancer 2=conditions
Service 1=metadata 2=spec 3=status
EndpointAddress 1=ip 2=targetRef 3=hostname? 4=nodeName
EndpointPort 1=name? 2=port 3=protocol? 4=appProtocol
EndpointSubset 1=addresses 2=notReadyAddresses 3=ports
Endpoints 1=metadata 2=subsets
Secret 1=metadata 2=data 3=type? 4=stringData 5=immutable
ConfigMap 1=metadata 2=data 3=binaryData 4=immutable
ServiceAccount 1=metadata 2=secrets 3=imagePullSecrets 4=automountServiceAccountToken
EventSource 1=component? 2=host?
CoreEventSeries 1=count 2=lastObservedTime
Event 1=metadata 2=involvedObject 3=reason? 4=message? 5=source 6=firstTimestamp 7=lastTimestamp 8=count?
  9=type? 10=eventTime 11=series 12=action? 13=related 14=reportingComponent 15=reportingInstance
EventsEvent 1=metadata 2=eventTime 3=series 4=reportingController? 5=reportingInstance? 6=action? 7=reason?
  8=regarding 9=related 10=note? 11=type? 12=deprecatedSource 13=deprecatedFirstTimestamp
  14=deprecatedLastTimestamp 15=deprecatedCount?
RollingUpdateDeployment 1=maxUnavailable 2=maxSurge
DeploymentStrategy 1=type? 2=rollingUpdate
DeploymentSpec 1=replicas 2=selector 3=template 4=strategy 5=minReadySeconds? 6=revisionHistoryLimit 7=paused?
  9=progressDeadlineSeconds
DeploymentCondition 1=type 2=status 4=reason? 5=message? 6=lastUpdateTime 7=lastTransitionTime
DeploymentStatus 1=observedGeneration? 2=replicas? 3=updatedReplicas? 4=availableReplicas?
  5=unavailableReplicas? 6=conditions 7=readyReplicas? 8=collisionCount 9=terminatingReplicas
Deployment 1=metadata 2=spec 3=status
ReplicaSetSpec 1=replicas 2=selector 3=template 4=minReadySeconds?
ReplicaSetStatus 1=replicas 2=fullyLabeledReplicas? 3=observedGeneration? 4=readyReplicas? 5=availableReplicas?
  6=conditions 7=terminatingReplicas
ReplicaSet 1=metadata 2=spec 3=status
RollingUpdateDaemonSet 1=maxUnavailable 2=maxSurge
DaemonSetUpdateStrategy 1=type? 2=rollingUpdate
DaemonSetSpec 1=selector 2=template 3=updateStrategy 4=minReadySeconds? 6=revisionHistoryLimit
DaemonSetStatus 1=currentNumberScheduled 2=numberMisscheduled 3=desiredNumberScheduled 4=numberReady
  5=observedGeneration? 6=updatedNumberScheduled? 7=numberAvailable? 8=numberUnavailable? 9=collisionCount 10=conditions
DaemonSet 1=metadata 2=spec 3=status
PodDisruptionBudgetSpec 1=minAvailable 2=selector 3=maxUnavailable 4=unhealthyPodEvictionPolicy
PodDisruptionBudgetStatus 1=observedGeneration? 3=disruptionsAllowed 4=currentHealthy 5=desiredHealthy 6=expectedPods
  7=conditions
PodDisruptionBudget 1=metadata 2=spec 3=status
ScaleSpec 1=replicas?
ScaleStatus 1=replicas 2=selector?
Scale 1=metadata 2=spec 3=status
SliceEndpointConditions 1=ready 2=serving 3=terminating
SliceEndpoint 1=addresses 2=conditions 3=hostname 4=targetRef 5=deprecatedTopology 6=nodeName 7=zone 8=hints
SlicePort 1=name? 2=port 3=protocol? 4=appProtocol
EndpointSlice 1=metadata 2=endpoints 3=ports 4=addressType
ServiceBackendPort 1=name? 2=number?
IngressServiceBackend 1=name 2=port
IngressBackend 3=resource 4=service
HTTPIngressPath 1=path? 2=backend 3=pathType
HTTPIngressRuleValue 1=paths
IngressRule 1=host? 2{1=http}
IngressTLS 1=hosts 2=secretName?
IngressSpec 1=defaultBackend 2=tls 3=rules 4=ingressClassName
IngressPortStatus 1=port 2=protocol 3=error
IngressLoadBalancerIngress 1=ip? 2=hostname? 4=ports
IngressLoadBalancerStatus 1=ingress
IngressStatus 1=loadBalancer
Ingress 1=metadata 2=spec 3=status
IngressClassParametersReference 1=apiGroup 2=kind 3=name 4=scope 5=namespace
IngressClassSpec 1=controller? 2=parameters
IngressClass 1=metadata 2=spec
IPBlock 1=cidr? 2=except
NetworkPolicyPeer 1=podSelector 2=namespaceSelector 3=ipBlock
NetworkPolicyPort 1=protocol 2=port 3=endPort
NetworkPolicyIngressRule 1=ports 2=from
NetworkPolicyEgressRule 1=ports 2=to
NetworkPolicySpec 1=podSelector 2=ingress 3=egress 4=policyTypes
NetworkPolicy 1=metadata 2=spec
LeaseSpec 1=holderIdentity 2=leaseDurationSeconds 3=acquireTime 4=renewTime 5=leaseTransitions 6=strategy
  7=preferredHolder
Lease 1=metadata 2=spec
PolicyRule 1=verbs 2=apiGroups 3=resources 4=resourceNames 5=nonResourceURLs
RbacSubject 1=kind 2=apiGroup? 3=name? 4=namespace?
RoleRef 1=apiGroup? 2=kind? 3=name?
AggregationRule 1=clusterRoleSelectors
Role 1=metadata 2=rules
ClusterRole 1=metadata 2=rules 3=aggregationRule
RoleBinding 1=metadata 2=subjects 3=roleRef
ClusterRoleBinding 1=metadata 2=subjects 3=roleRef
ResourceAttributes 1=namespace? 2=verb? 3=group? 4=version? 5=resource? 6=subresource? 7=name? 8=fieldSelector
  9=labelSelector
NonResourceAttributes 1=path? 2=verb?
SelfSubjectAccessReviewSpec 1=resourceAttributes 2=nonResourceAttributes
SubjectAccessReviewStatus 1=allowed 2=reason? 3=evaluationError? 4=denied?
SelfSubjectAccessReview 1=metadata 2=spec 3=status
TokenRequestSpec 1=audiences 3=boundObjectRef 4=expirationSeconds
TokenRequestStatus 1=token? 2=expirationTimestamp
TokenRequest 1=metadata 2=spec 3=status
"""
