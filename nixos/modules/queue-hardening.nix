# What the queue's service may not do. In: whether a destination runs a program of the operator's. Out: keys of
# [Service]; docs/systemd/eka-queue.service has the same, which a test compares. What it may write is not here.
{ runsPrograms }:
{
  CapabilityBoundingSet = "";
  DevicePolicy = "closed";
  LimitCORE = 0;
  LockPersonality = true;
  # Programs that make code at run time (node, java) do not start with it.
  MemoryDenyWriteExecute = !runsPrograms;
  NoNewPrivileges = true;
  PrivateDevices = true;
  PrivateMounts = true;
  PrivateTmp = true;
  ProtectClock = true;
  ProtectControlGroups = true;
  ProtectHome = true;
  ProtectHostname = true;
  ProtectKernelLogs = true;
  ProtectKernelModules = true;
  ProtectKernelTunables = true;
  ProtectProc = "invisible";
  ProtectSystem = "strict";
  RemoveIPC = true;
  RestrictAddressFamilies = [
    "AF_UNIX"
    "AF_INET"
    "AF_INET6"
  ];
  RestrictNamespaces = true;
  RestrictRealtime = true;
  RestrictSUIDSGID = true;
  SystemCallArchitectures = "native";
  SystemCallErrorNumber = "EPERM";
  SystemCallFilter = [
    "@system-service"
    "~@privileged @resources"
  ];
  UMask = "0027";
}
