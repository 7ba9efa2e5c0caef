export { Fault } from "@kube-connector/core";
