"""The launcher of child processes: etcd, kube-apiserver, the operator's and the simulator's."""
