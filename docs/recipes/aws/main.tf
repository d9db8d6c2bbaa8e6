# Two subnets, and workers with a card in each: the first address of a card is the node's, the secondary ones are for pods.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = { source = "hashicorp/aws", version = ">= 5.0" }
  }
}

variable "region" {
  type    = string
  default = "eu-central-1"
}

variable "zone" {
  type    = string
  default = "eu-central-1a"
}

variable "key_name" {
  type = string
}

variable "ami" {
  type        = string
  description = "An image with cloud-init that routes by source for each card, such as Amazon Linux 2023"
}

variable "instance_type" {
  type    = string
  default = "t3.large"
}

variable "workers" {
  type    = number
  default = 2
}

variable "pod_addresses" {
  type        = number
  default     = 5
  description = "Addresses for pods on each card; the instance type bounds it"
}

variable "admin_cidr" {
  type        = string
  description = "From where SSH and the API server are reached"
  default     = "10.0.0.0/8"
}

provider "aws" {
  region = var.region
}

locals {
  cards = { ens5 = "172.31.16.0/20", ens6 = "172.31.32.0/20" }
  nodes = toset(concat(["control"], [for index in range(var.workers) : "worker${index + 1}"]))
  ports = { for pair in setproduct(local.nodes, keys(local.cards)) : "${pair[0]}-${pair[1]}" => { node = pair[0], card = pair[1] } }
}

resource "aws_vpc" "this" {
  cidr_block           = "172.31.0.0/16"
  enable_dns_hostnames = true
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_route_table" "this" {
  vpc_id = aws_vpc.this.id
  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.this.id
  }
}

resource "aws_subnet" "this" {
  for_each          = local.cards
  vpc_id            = aws_vpc.this.id
  cidr_block        = each.value
  availability_zone = var.zone
}

resource "aws_route_table_association" "this" {
  for_each       = local.cards
  subnet_id      = aws_subnet.this[each.key].id
  route_table_id = aws_route_table.this.id
}

resource "aws_security_group" "this" {
  name   = "roadstead"
  vpc_id = aws_vpc.this.id
  ingress {
    description = "nodes and pods among themselves"
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    self        = true
  }
  dynamic "ingress" {
    for_each = [22, 6443]
    content {
      from_port   = ingress.value
      to_port     = ingress.value
      protocol    = "tcp"
      cidr_blocks = [var.admin_cidr]
    }
  }
  egress {
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_network_interface" "this" {
  for_each        = local.ports
  subnet_id       = aws_subnet.this[each.value.card].id
  security_groups = [aws_security_group.this.id]
  # The card of a node that runs pods has theirs beside its own. The check of source and destination stays on: nothing else may leave.
  private_ips_count = each.value.node == "control" ? 0 : var.pod_addresses
  source_dest_check = true
}

resource "aws_instance" "this" {
  for_each      = local.nodes
  ami           = var.ami
  instance_type = var.instance_type
  key_name      = var.key_name
  tags          = { Name = each.key }
  network_interface {
    device_index         = 0
    network_interface_id = aws_network_interface.this["${each.key}-ens5"].id
  }
  network_interface {
    device_index         = 1
    network_interface_id = aws_network_interface.this["${each.key}-ens6"].id
  }
}

# An instance with two cards gets no public address by itself.
resource "aws_eip" "this" {
  for_each          = local.nodes
  domain            = "vpc"
  network_interface = aws_network_interface.this["${each.key}-ens5"].id
  depends_on        = [aws_instance.this]
}

output "nodes" {
  value = {
    for node in local.nodes : node => {
      public = aws_eip.this[node].public_ip
      cards = {
        for card, subnet in local.cards : card => {
          subnet = subnet
          own    = aws_network_interface.this["${node}-${card}"].private_ip
          pods = sort(setsubtract(
            aws_network_interface.this["${node}-${card}"].private_ips,
            [aws_network_interface.this["${node}-${card}"].private_ip],
          ))
        }
      }
    }
  }
}
