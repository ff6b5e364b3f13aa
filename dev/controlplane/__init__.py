"""A real etcd and kube-apiserver on 127.0.0.1, for the tests, the demo and the benchmarks.

There is no controller-manager, scheduler or kubelet, so nothing collects garbage, finishes the
deletion of a namespace or runs a Pod.
"""
