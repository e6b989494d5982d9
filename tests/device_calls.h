/* SPDX-License-Identifier: MIT
 *
 * Every function of a device that the library calls, with its parameters: X can fail, Y returns nothing. For the spy (in the process of the
 * test) and the layer that injects faults. */
#ifndef VKL_TESTS_DEVICE_CALLS_H
#define VKL_TESTS_DEVICE_CALLS_H

#define DEVICE_CALLS(X, Y)                                                                                                       \
    X(vkAllocateCommandBuffers, (VkDevice d, const VkCommandBufferAllocateInfo *i, VkCommandBuffer *o), (d, i, o))               \
    X(vkAllocateDescriptorSets, (VkDevice d, const VkDescriptorSetAllocateInfo *i, VkDescriptorSet *o), (d, i, o))               \
    X(vkAllocateMemory, (VkDevice d, const VkMemoryAllocateInfo *i, const VkAllocationCallbacks *a, VkDeviceMemory *o),          \
      (d, i, a, o))                                                                                                              \
    X(vkBeginCommandBuffer, (VkCommandBuffer c, const VkCommandBufferBeginInfo *i), (c, i))                                      \
    X(vkBindBufferMemory, (VkDevice d, VkBuffer b, VkDeviceMemory m, VkDeviceSize s), (d, b, m, s))                              \
    X(vkCreateBuffer, (VkDevice d, const VkBufferCreateInfo *i, const VkAllocationCallbacks *a, VkBuffer *o), (d, i, a, o))      \
    X(vkCreateCommandPool, (VkDevice d, const VkCommandPoolCreateInfo *i, const VkAllocationCallbacks *a, VkCommandPool *o),     \
      (d, i, a, o))                                                                                                              \
    X(vkCreateComputePipelines,                                                                                                  \
      (VkDevice d, VkPipelineCache c, uint32_t n, const VkComputePipelineCreateInfo *i, const VkAllocationCallbacks *a,          \
       VkPipeline *o),                                                                                                           \
      (d, c, n, i, a, o))                                                                                                        \
    X(vkCreateDescriptorPool,                                                                                                    \
      (VkDevice d, const VkDescriptorPoolCreateInfo *i, const VkAllocationCallbacks *a, VkDescriptorPool *o), (d, i, a, o))      \
    X(vkCreateDescriptorSetLayout,                                                                                               \
      (VkDevice d, const VkDescriptorSetLayoutCreateInfo *i, const VkAllocationCallbacks *a, VkDescriptorSetLayout *o),          \
      (d, i, a, o))                                                                                                              \
    X(vkCreateFence, (VkDevice d, const VkFenceCreateInfo *i, const VkAllocationCallbacks *a, VkFence *o), (d, i, a, o))         \
    X(vkCreatePipelineCache,                                                                                                     \
      (VkDevice d, const VkPipelineCacheCreateInfo *i, const VkAllocationCallbacks *a, VkPipelineCache *o), (d, i, a, o))        \
    X(vkCreatePipelineLayout,                                                                                                    \
      (VkDevice d, const VkPipelineLayoutCreateInfo *i, const VkAllocationCallbacks *a, VkPipelineLayout *o), (d, i, a, o))      \
    X(vkCreateQueryPool, (VkDevice d, const VkQueryPoolCreateInfo *i, const VkAllocationCallbacks *a, VkQueryPool *o),           \
      (d, i, a, o))                                                                                                              \
    X(vkCreateShaderModule, (VkDevice d, const VkShaderModuleCreateInfo *i, const VkAllocationCallbacks *a, VkShaderModule *o),  \
      (d, i, a, o))                                                                                                              \
    X(vkEndCommandBuffer, (VkCommandBuffer c), (c))                                                                              \
    X(vkFlushMappedMemoryRanges, (VkDevice d, uint32_t n, const VkMappedMemoryRange *r), (d, n, r))                              \
    X(vkGetFenceStatus, (VkDevice d, VkFence f), (d, f))                                                                         \
    X(vkGetPipelineCacheData, (VkDevice d, VkPipelineCache c, size_t * n, void *o), (d, c, n, o))                                \
    X(vkGetQueryPoolResults,                                                                                                     \
      (VkDevice d, VkQueryPool p, uint32_t first, uint32_t n, size_t size, void *data, VkDeviceSize stride,                      \
       VkQueryResultFlags flags),                                                                                                \
      (d, p, first, n, size, data, stride, flags))                                                                               \
    X(vkInvalidateMappedMemoryRanges, (VkDevice d, uint32_t n, const VkMappedMemoryRange *r), (d, n, r))                         \
    X(vkMapMemory, (VkDevice d, VkDeviceMemory m, VkDeviceSize o, VkDeviceSize s, VkMemoryMapFlags f, void **p),                 \
      (d, m, o, s, f, p))                                                                                                        \
    X(vkMergePipelineCaches, (VkDevice d, VkPipelineCache c, uint32_t n, const VkPipelineCache *s), (d, c, n, s))                \
    X(vkQueueSubmit, (VkQueue q, uint32_t n, const VkSubmitInfo *i, VkFence f), (q, n, i, f))                                    \
    X(vkQueueWaitIdle, (VkQueue q), (q))                                                                                         \
    X(vkResetFences, (VkDevice d, uint32_t n, const VkFence *f), (d, n, f))                                                      \
    X(vkWaitForFences, (VkDevice d, uint32_t n, const VkFence *f, VkBool32 all, uint64_t t), (d, n, f, all, t))                  \
    Y(vkCmdBeginDebugUtilsLabelEXT, (VkCommandBuffer c, const VkDebugUtilsLabelEXT *l), (c, l))                                  \
    Y(vkCmdBindDescriptorSets,                                                                                                   \
      (VkCommandBuffer c, VkPipelineBindPoint p, VkPipelineLayout l, uint32_t first, uint32_t n, const VkDescriptorSet *s,       \
       uint32_t m, const uint32_t *o),                                                                                           \
      (c, p, l, first, n, s, m, o))                                                                                              \
    Y(vkCmdBindPipeline, (VkCommandBuffer c, VkPipelineBindPoint b, VkPipeline p), (c, b, p))                                    \
    Y(vkCmdCopyBuffer, (VkCommandBuffer c, VkBuffer s, VkBuffer d, uint32_t n, const VkBufferCopy *r), (c, s, d, n, r))          \
    Y(vkCmdDispatch, (VkCommandBuffer c, uint32_t x, uint32_t y, uint32_t z), (c, x, y, z))                                      \
    Y(vkCmdDispatchIndirect, (VkCommandBuffer c, VkBuffer b, VkDeviceSize o), (c, b, o))                                         \
    Y(vkCmdEndDebugUtilsLabelEXT, (VkCommandBuffer c), (c))                                                                      \
    Y(vkCmdFillBuffer, (VkCommandBuffer c, VkBuffer b, VkDeviceSize o, VkDeviceSize s, uint32_t v), (c, b, o, s, v))             \
    Y(vkCmdPipelineBarrier,                                                                                                      \
      (VkCommandBuffer c, VkPipelineStageFlags s, VkPipelineStageFlags d, VkDependencyFlags f, uint32_t n,                       \
       const VkMemoryBarrier *m, uint32_t bn, const VkBufferMemoryBarrier *b, uint32_t in, const VkImageMemoryBarrier *i),       \
      (c, s, d, f, n, m, bn, b, in, i))                                                                                          \
    Y(vkCmdPushConstants, (VkCommandBuffer c, VkPipelineLayout l, VkShaderStageFlags s, uint32_t o, uint32_t n, const void *v),  \
      (c, l, s, o, n, v))                                                                                                        \
    Y(vkCmdResetQueryPool, (VkCommandBuffer c, VkQueryPool p, uint32_t f, uint32_t n), (c, p, f, n))                             \
    Y(vkCmdWriteTimestamp, (VkCommandBuffer c, VkPipelineStageFlagBits s, VkQueryPool p, uint32_t q), (c, s, p, q))              \
    Y(vkDestroyBuffer, (VkDevice d, VkBuffer b, const VkAllocationCallbacks *a), (d, b, a))                                      \
    Y(vkDestroyCommandPool, (VkDevice d, VkCommandPool p, const VkAllocationCallbacks *a), (d, p, a))                            \
    Y(vkDestroyDescriptorPool, (VkDevice d, VkDescriptorPool p, const VkAllocationCallbacks *a), (d, p, a))                      \
    Y(vkDestroyDescriptorSetLayout, (VkDevice d, VkDescriptorSetLayout l, const VkAllocationCallbacks *a), (d, l, a))            \
    Y(vkDestroyDevice, (VkDevice d, const VkAllocationCallbacks *a), (d, a))                                                     \
    Y(vkDestroyFence, (VkDevice d, VkFence f, const VkAllocationCallbacks *a), (d, f, a))                                        \
    Y(vkDestroyPipeline, (VkDevice d, VkPipeline p, const VkAllocationCallbacks *a), (d, p, a))                                  \
    Y(vkDestroyPipelineCache, (VkDevice d, VkPipelineCache c, const VkAllocationCallbacks *a), (d, c, a))                        \
    Y(vkDestroyPipelineLayout, (VkDevice d, VkPipelineLayout l, const VkAllocationCallbacks *a), (d, l, a))                      \
    Y(vkDestroyQueryPool, (VkDevice d, VkQueryPool p, const VkAllocationCallbacks *a), (d, p, a))                                \
    Y(vkDestroyShaderModule, (VkDevice d, VkShaderModule m, const VkAllocationCallbacks *a), (d, m, a))                          \
    Y(vkFreeMemory, (VkDevice d, VkDeviceMemory m, const VkAllocationCallbacks *a), (d, m, a))                                   \
    Y(vkGetBufferMemoryRequirements, (VkDevice d, VkBuffer b, VkMemoryRequirements * r), (d, b, r))                              \
    Y(vkGetDeviceQueue, (VkDevice d, uint32_t f, uint32_t i, VkQueue * q), (d, f, i, q))                                         \
    Y(vkGetPhysicalDeviceMemoryProperties, (VkPhysicalDevice p, VkPhysicalDeviceMemoryProperties * o), (p, o))                   \
    Y(vkUpdateDescriptorSets, (VkDevice d, uint32_t n, const VkWriteDescriptorSet *w, uint32_t m, const VkCopyDescriptorSet *c), \
      (d, n, w, m, c))

#endif
