"""Launcher of child processes: etcd, kube-apiserver, the operator and the simulator."""
